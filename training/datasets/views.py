"""Rendered views as a dataset: random crops for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from keyposs_trt.geometry import box_of_points
from keyposs_trt.training.datasets.augment import random_crop, random_pixels
from keyposs_trt.training.datasets.wear import wear_something

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from keyposs_trt.training.recipe import AugmentRecipe


class ViewStore:
    """All views of some files in memory, JPEG-encoded.

    Attributes:
        originals: [n] indices of the first view of every file, the portrait itself.
    """

    def __init__(self, files: list[Path]) -> None:
        encoded, points, originals = [], [], []
        for file in files:
            with np.load(file, allow_pickle=False) as archive:
                data, ends = archive["images"], archive["ends"]
                originals.append(len(encoded))
                encoded += np.split(data, ends[:-1])
                points.append(archive["points"])
        self._encoded = encoded
        self.points: NDArray[np.float32] = np.concatenate(points)
        self.originals = np.array(originals)

    def __len__(self) -> int:
        return len(self._encoded)

    def image(self, index: int) -> NDArray[np.uint8]:
        """[S, S, 3] uint8 BGR."""
        return np.asarray(cv2.imdecode(self._encoded[index], cv2.IMREAD_COLOR), np.uint8)


class TrainingViews(Dataset):
    """Random crops without end: sample ``i`` depends on nothing but the seed and i.

    Items are (image [3, S, S] uint8 RGB, points [L, 2] float32 crop pixels, labelled [L] bool).
    """

    def __init__(
        self,
        store: ViewStore,
        original_share: float,
        flip_pairs: NDArray[np.int64],
        size: int,
        crop_scale: float,
        seed: int,
        augment: AugmentRecipe,
    ) -> None:
        self.store, self.original_share = store, original_share
        self.flip_pairs, self.size, self.crop_scale, self.seed = flip_pairs, size, crop_scale, seed
        self.augment = augment

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        own = rng.random() < self.original_share
        view = int(rng.choice(self.store.originals)) if own else int(rng.integers(len(self.store)))
        image, points = self.store.image(view), self.store.points[view]
        if rng.random() < self.augment.wear:
            image = wear_something(image, points, rng)
        crop, points, _ = random_crop(image, points, box_of_points(points), self.flip_pairs, self.size, self.crop_scale, rng, self.augment)
        pixels = random_pixels(to_tensor(crop[..., ::-1]), rng, self.augment)
        return pixels, torch.from_numpy(points), torch.ones(len(points), dtype=torch.bool)


def to_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """[3, H, W] uint8 of an image [H, W, 3]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
