"""The box a face is cropped by, from one of three sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import UsageError
from keyposs_trt.evaluation.faces import BOXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.datasets import Face
    from keyposs_trt.detection import Detector

DETECTOR = "detector"
BOX_SOURCES = (*BOXES, DETECTOR)
_WORDS = {BOXES[0]: "around the labelled points", BOXES[1]: "as annotated", DETECTOR: "of the face detector"}
MIN_OVERLAP = 0.3  # intersection over union with the box around the landmarks: below, the detector found another face or none


class BoxSource:
    """Gives the boxes of faces.

    Attributes:
        name: ``landmarks``, ``annotated`` or ``detector``.
        scale: the boxes are made so many times as large about their centres.
    """

    def __init__(self, name: str = BOXES[0], scale: float = 1.0, detector: Detector | None = None) -> None:
        """A source by name; ``detector`` is needed for the one of that name.

        Raises:
            UsageError: there is no such source, its detector is missing, or the scale is not positive.
        """
        if name not in BOX_SOURCES:
            raise UsageError(f"'{name}' is no source of boxes; choose one of {', '.join(BOX_SOURCES)}.")
        if (name == DETECTOR) != (detector is not None):
            raise UsageError("A detector belongs to the boxes of the name 'detector', and to them alone; give both or neither.")
        if not 0 < scale < np.inf:
            raise UsageError(f"The scale of the boxes must be positive, not {scale}; 1 leaves them as they are.")
        self.name, self.scale, self._detector = name, scale, detector

    def __str__(self) -> str:
        return _WORDS[self.name]

    def candidates(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """[N, 4] what the detector finds in an image; None for the other sources."""
        return None if self._detector is None else np.asarray(self._detector(image).boxes, np.float32).reshape(-1, 4)

    def __call__(self, face: Face, candidates: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """[4] float32 x1 y1 x2 y2 in image pixels to crop the face by, or None where there is none of a pixel or more."""
        box = face.box if self.name == BOXES[1] else face.landmark_box
        if self.name == DETECTOR:
            box = _nearest(face.landmark_box, candidates)
        if box is None or not np.isfinite(box).all():
            return None
        if self.scale != 1:
            centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * (self.scale / 2)
            box = np.concatenate([centre - half, centre + half]).astype(np.float32)
        return None if (box[2:] - box[:2]).min() < 1 else box


def _nearest(truth: NDArray[np.float32], candidates: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """The box that overlaps most with the true one, if it is of the same face."""
    if candidates is None or not len(candidates):
        return None
    overlaps = overlap(truth, candidates)
    best = int(overlaps.argmax())
    return candidates[best] if overlaps[best] >= MIN_OVERLAP else None


def overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N] intersection over union of a box [4] with others [N, 4]; 0 for boxes without area."""
    a, b = box.astype(np.float64), others.astype(np.float64)
    sides = np.maximum(np.minimum(a[2:], b[:, 2:]) - np.maximum(a[:2], b[:, :2]), 0)
    common = sides.prod(-1)
    union = (a[2:] - a[:2]).prod() + (b[:, 2:] - b[:, :2]).prod(-1) - common
    return np.divide(common, union, out=np.zeros(len(b)), where=union > 0)
