"""How the faces of a frame are looked for, as requests to whoever has the landmarker: see ``tracking.Step``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keyposs_trt.detection import Detections
from keyposs_trt.video.tracking import Detect, Locate

if TYPE_CHECKING:
    from typing import TypeGuard

    from numpy.typing import NDArray

    from keyposs_trt.landmarks import Landmarks
    from keyposs_trt.video.tracking import Step

    Answer = list[Landmarks] | Detections


class Finder(Protocol):
    """Finds the faces of the frames of one source, one after the other."""

    def step(self, size: tuple[int, int], time: float) -> Step:
        """The requests of the next frame, of ``size`` (width, height) in pixels, ``time`` seconds after the start."""
        ...


class StillFinder:
    """Every frame by itself: the detector, then landmarks in its boxes.

    Args:
        max_faces: at most so many faces, the detector's best; None for all.
    """

    def __init__(self, max_faces: int | None = None) -> None:
        self._max_faces = max_faces

    def step(self, size: tuple[int, int], time: float) -> Step:  # noqa: ARG002 (a frame by itself knows no time)
        found = yield Detect()
        assert isinstance(found, Detections)
        boxes, scores = found.boxes[: self._max_faces], found.scores[: self._max_faces]
        if not len(boxes):
            return []
        faces = yield Locate(boxes)
        assert is_landmarks(faces)
        return [replace(face, score=float(score)) for face, score in zip(faces, scores, strict=True)]


class WholeFrameFinder:
    """The whole picture is a face; there is no detector."""

    def step(self, size: tuple[int, int], time: float) -> Step:  # noqa: ARG002
        faces = yield Locate(whole_frame(size))
        assert is_landmarks(faces)
        return faces


def is_landmarks(answer: Answer) -> TypeGuard[list[Landmarks]]:
    """Whether this is the answer to a ``Locate``."""
    return not isinstance(answer, Detections)


def whole_frame(size: tuple[int, int]) -> NDArray[np.float32]:
    """[1, 4] float32: the box of a picture that is a face from edge to edge (pixel centres lie at whole numbers)."""
    return np.array([[-0.5, -0.5, size[0] - 0.5, size[1] - 0.5]], np.float32)
