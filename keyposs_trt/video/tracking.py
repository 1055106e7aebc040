"""Faces followed through a video: the landmarks of the last frame give the next crop, the detector finds the others.

The detector runs on the first frame, on every ``detect_every``-th frame, and on a frame where a face was lost or none
is followed; so it is seldom needed, and a face that turns up is seen within ``detect_every`` frames.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keyposs_trt.geometry import box_of_points
from keyposs_trt.graph.contract import LOST_SCORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from keyposs_trt.detection import Detector
    from keyposs_trt.landmarks import Landmarks

SAME_FACE = 0.3  # IoU from which a detection is a face that is followed already
DUPLICATE = 0.5  # IoU from which two followed faces are one
VISIBLE = 0.5  # share of a face's box that must lie in the frame
MIN_SIDE = 8.0  # pixels, the shorter side of the smallest box worth following
MAX_GROWTH = 2.0  # a box that doubles or halves between two frames is no face any more


class FaceFinder(Protocol):
    """What the tracker needs of a ``Landmarker``."""

    @property
    def detector(self) -> Detector | None: ...
    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> list[Landmarks]: ...


class Tracker:
    """Landmarks of the faces of one video, frame after frame; make a new one for each video.

    Args:
        landmarker: finds landmarks in boxes, and has a detector.
        max_faces: at most so many faces; those followed already come first, then the detector's best.
        detect_every: the detector runs at least on every n-th frame.
        lost_score: a face whose landmark scores have a lower mean is lost, which by mistake costs a run of the detector; the model's own is
            ``landmarker.spec.lost_score``.
    """

    def __init__(
        self,
        landmarker: FaceFinder,
        *,
        max_faces: int | None = None,
        detect_every: int = 15,
        lost_score: float = LOST_SCORE,
    ) -> None:
        self._landmarker = landmarker
        self._max_faces = max_faces
        self._detect_every = detect_every
        self._lost_score = lost_score
        self._boxes = np.empty((0, 4), np.float32)  # of the faces to follow into the next frame
        self._since = 0  # frames since the detector ran

    def __call__(self, image: NDArray[np.uint8]) -> list[Landmarks]:
        """The faces of the next frame, [H, W, 3] uint8 BGR; followed ones first, in the same order as before.

        A followed face has the mean of its landmark scores as its score, a new one the detector's.
        """
        faces = distinct([face for face in self._landmarks(image, self._boxes) if self._holds(face, image)])
        self._since += 1
        lost = len(faces) < len(self._boxes)
        if not faces or lost or self._since >= self._detect_every:
            faces = distinct(faces + self._detect(image, faces))
            self._since = 0
        # A detection with poor landmarks is reported, but not followed: the next frame asks the detector again.
        follow = [box_of_points(face.points) for face in faces if self._holds(face, image)]
        if len(follow) < len(faces):
            self._since = self._detect_every
        self._boxes = np.stack(follow) if follow else np.empty((0, 4), np.float32)
        return faces

    def _landmarks(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> list[Landmarks]:
        return self._landmarker(image, boxes) if len(boxes) else []

    def _detect(self, image: NDArray[np.uint8], known: Sequence[Landmarks]) -> list[Landmarks]:
        """Faces the detector finds that are not among the known ones."""
        room = None if self._max_faces is None else self._max_faces - len(known)
        if room == 0 or self._landmarker.detector is None:
            return []
        found = self._landmarker.detector(image)
        new = np.ones(len(found.boxes), bool)
        if known:
            new = iou(found.boxes, box_of_points([face.points for face in known])).max(1) < SAME_FACE
        boxes, scores = found.boxes[new][:room], found.scores[new][:room]
        return [replace(face, score=float(score)) for face, score in zip(self._landmarks(image, boxes), scores, strict=True)]

    def _holds(self, face: Landmarks, image: NDArray[np.uint8]) -> bool:
        """Whether the landmarks are good enough to cut the next crop from."""
        if not face.scores.mean() >= self._lost_score:
            return False
        box, (height, width) = box_of_points(face.points), image.shape[:2]
        sides, before = box[2:] - box[:2], face.box[2:] - face.box[:2]
        # Written so that numbers that are not finite fail.
        if not sides.min() >= MIN_SIDE or not 1 / MAX_GROWTH <= sides.max() / max(before.max(), 1e-6) <= MAX_GROWTH:
            return False
        inside = np.clip(box, 0, [width, height, width, height])
        return bool(_area(inside) >= VISIBLE * _area(box))


def distinct(faces: Sequence[Landmarks]) -> list[Landmarks]:
    """The faces without those that lie on an earlier one (IoU of the landmarks' boxes)."""
    kept: list[Landmarks] = []
    for face in faces:
        box = box_of_points(face.points)
        if not kept or iou(box[None], box_of_points([k.points for k in kept])).max() < DUPLICATE:
            kept.append(face)
    return kept


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """[A, B] intersection over union of boxes [A, 4] and [B, 4], x1 y1 x2 y2; 0 for boxes without area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.maximum(high - low, 0).prod(-1)
    union = _area(a)[:, None] + _area(b)[None] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)
