"""NME of a landmarker on labelled faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import DataError
from keyposs_trt.metrics import auc, failure_rate, nme, normaliser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from keyposs_trt.evaluation.faces import LabelledFace
    from keyposs_trt.landmarker import Landmarker


@dataclass(frozen=True)
class Report:
    """What was measured; errors are shares of the scheme's norm, multiply by 100 for %.

    Attributes:
        nme: mean over faces.
        faces: [F] NME of every face.
        parts: NME of every part of the face.
        failure_rate, auc: at 0.1.
    """

    nme: float
    faces: NDArray[np.float64]
    parts: dict[str, float]
    failure_rate: float
    auc: float


def locate(
    find: Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.floating]],
    image: NDArray[np.uint8],
    box: NDArray[np.float32],
    flip: NDArray[np.intp] | None = None,
) -> NDArray[np.float32]:
    """[..., L, 2] landmarks of one face, image pixels.

    Args:
        find: takes an image [H, W, 3] and a box [4] and gives the landmarks [..., L, 2] of the face in it.
        image: [H, W, 3] uint8 BGR.
        box: [4] x1 y1 x2 y2 in image pixels.
        flip: the scheme's mirror order, for the flip test: the mean with the landmarks found in the mirror image. None for no flip test.
    """
    points = find(image, box)
    if flip is not None:
        right = image.shape[1] - 1
        mirrored_box = np.array([right - box[2], box[1], right - box[0], box[3]], np.float32)
        mirrored = find(np.ascontiguousarray(image[:, ::-1]), mirrored_box)[..., flip, :]
        points = (points + np.array([right, 0]) + mirrored * np.array([-1, 1])) / 2
    return np.asarray(points, np.float32)


def predict(landmarker: Landmarker, faces: Sequence[LabelledFace], flip_test: bool = False) -> NDArray[np.float32]:
    """[F, L, 2] landmarks of labelled faces, each cropped by its own box; with ``flip_test``, averaged with the mirror image's."""

    def find(image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32]:
        return landmarker(image, box[None])[0].points

    flip = landmarker.scheme.flip if flip_test else None
    return np.stack([locate(find, face.read_image(), face.box, flip) for face in faces])


def evaluate(landmarker: Landmarker, faces: Sequence[LabelledFace], flip_test: bool = False) -> Report:
    """Measures a landmarker on faces labelled in its own scheme, cropped by their label boxes.

    Raises:
        DataError: there are no faces.
        InputError: an image cannot be read.
    """
    if not faces:
        raise DataError("There are no faces to measure on; check the annotation files.")
    truth = np.stack([f.points for f in faces])
    found = predict(landmarker, faces, flip_test)
    seen = np.stack([np.ones(len(f.points), bool) if f.labelled is None else f.labelled for f in faces])
    norm = normaliser(landmarker.scheme, truth)
    errors = nme(found, truth, norm, seen)
    parts = {name: _part_error(found, truth, norm, seen, list(index)) for name, index in landmarker.scheme.parts.items()}
    return Report(float(errors.mean()), errors, parts, failure_rate(errors), auc(errors))


def _part_error(
    found: NDArray[np.float32], truth: NDArray[np.float32], norm: NDArray[np.float64], seen: NDArray[np.bool_], index: list[int]
) -> float:
    """Mean NME of some points over the faces that have any of them; NaN where none has."""
    has = seen[:, index].any(1)
    if not has.any():
        return float("nan")
    return float(nme(found[has][:, index], truth[has][:, index], norm[has], seen[has][:, index]).mean())
