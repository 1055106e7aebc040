"""Annotated faces of any data set as training samples: random crops for training, plain crops for validation."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from keyposs_trt.crop import crop_faces
from keyposs_trt.geometry import square_of_box, transform
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.datasets.augment import random_crop, random_pixels
from keyposs_trt.training.datasets.views import to_tensor
from keyposs_trt.training.datasets.wear import wear_something

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from keyposs_trt.datasets import Face
    from keyposs_trt.training.recipe import Recipe

WORN = "300w"  # the scheme of the points that glasses and masks are drawn by


class AnnotatedFaces(Dataset):
    """Random crops of annotated faces without end: sample ``i`` depends on nothing but the seed and i.

    The samples go through all faces in a random order, then again in another one. Items are (image [3, S, S] uint8 RGB, points [L, 2]
    float32 crop pixels, labelled [L] bool); a point that is not labelled is at 0.

    Raises:
        InputError, DataError: an image cannot be read; checked when the data set is opened, so it changed since.
    """

    def __init__(self, faces: Sequence[Face], recipe: Recipe) -> None:
        self.faces, self.recipe = faces, recipe
        scheme = load_scheme(recipe.scheme)
        self._flip = scheme.flip
        self._wear = recipe.augment.wear if scheme.name == WORN else 0.0

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        r = self.recipe
        seed = r.training.seed
        turn, place = divmod(index, len(self.faces))
        face = self.faces[_order(seed, turn, len(self.faces))[place]]
        rng = np.random.default_rng((seed, index))
        image, points, labelled = face.read_image(), *points_of(face)
        if rng.random() < self._wear and labelled.all():
            image = wear_something(image, points, rng)
        crop, points, mirrored = random_crop(
            image, points, box_of(face, r.data.boxes), self._flip, r.network.input_size, r.target.crop_scale, rng, r.augment
        )
        if mirrored:
            labelled = labelled[self._flip]
        pixels = random_pixels(to_tensor(crop[..., ::-1]), rng, r.augment)
        return pixels, torch.from_numpy(np.where(labelled[:, None], points, np.float32(0))), torch.from_numpy(labelled)


class PlainFaces(Dataset):
    """Annotated faces as the runtime crops them; items as of ``AnnotatedFaces``."""

    def __init__(self, faces: Sequence[Face], recipe: Recipe) -> None:
        self.faces, self.recipe = faces, recipe

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        r, face = self.recipe, self.faces[index]
        points, labelled = points_of(face)
        square = square_of_box(box_of(face, r.data.boxes), r.target.crop_scale)[None]
        crops, matrices = crop_faces(face.read_image(), square, r.network.input_size)
        moved = np.where(labelled[:, None], transform(matrices[0], points), np.float32(0))
        return to_tensor(crops[0]), torch.from_numpy(moved), torch.from_numpy(labelled)


def points_of(face: Face) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Points [L, 2] with zeros for those that are not labelled, and labelled [L]."""
    labelled = np.ones(len(face.points), bool) if face.labelled is None else face.labelled
    return np.where(labelled[:, None], face.points, 0).astype(np.float32), labelled


def box_of(face: Face, boxes: str) -> NDArray[np.float32]:
    """[4] the box to crop by: the ``annotated`` one where the face has one, else the one around the ``landmarks``."""
    return face.box if boxes == "annotated" and face.box is not None else face.landmark_box


@lru_cache(4)
def _order(seed: int, turn: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, turn, count)).permutation(count)
