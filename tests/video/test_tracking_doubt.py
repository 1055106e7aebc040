"""Faces in doubt: when the detector's silence ends one, and when certain landmarks keep it."""

from __future__ import annotations

import numpy as np
import pytest
from tracking_world import IMAGE, A, B, World

from keyposs_trt.detection.detector import Detections
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.tracking import Tracker


class Fading(World):
    """As ``World``, but background looks like a face of score ``ghost``, only less certain by ``doubt``."""

    def __init__(self, *faces: tuple[float, ...], doubt: float) -> None:
        super().__init__(*faces)
        self.doubt = doubt
        self.blind = False

    def detector(self, image: np.ndarray) -> Detections:
        found = super().detector(image)
        return Detections(found.boxes[:0], found.scores[:0]) if self.blind else found

    def landmarks(self, box: np.ndarray) -> Landmarks:
        there = bool(self.faces)
        x1, y1, x2, y2 = next(iter(self.faces)) if there else box
        points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
        variance = 1.0 if there else self.doubt**2
        covariance = np.tile(np.array([variance, 0, variance], np.float32), (4, 1))
        return Landmarks(points, np.full(4, 0.9, np.float32), covariance, box, 0.9, "300w")


@pytest.mark.parametrize(("max_faces", "doubt", "frames"), [(None, 2.0, 1), (1, 2.0, 1), (None, 1.0, 19), (1, 1.0, 49)])
def test_a_ghost_is_dropped(max_faces: int | None, doubt: float, frames: int) -> None:
    world = Fading(A, doubt=doubt)
    tracker = Tracker(world, max_faces=max_faces, detect_every=10)
    tracker(IMAGE)
    world.faces.clear()
    shown = [len(tracker(IMAGE)) for _ in range(frames + 3)]
    assert shown == [1] * frames + [0] * 3


def test_a_face_that_the_detector_misses_for_a_moment_is_kept() -> None:
    world = Fading(A, doubt=1.0)
    tracker = Tracker(world, detect_every=5)
    for i in range(40):
        world.blind = 8 <= i < 12  # once on a frame it looks at
        (face,) = tracker(IMAGE)
        assert face.track == 1


def test_a_certain_face_outlives_a_detector_that_runs_for_others() -> None:
    world = World(A, B)
    world.faces[B] = 0.2  # never followed, so the detector runs on every frame
    detector = world.detector
    tracker = Tracker(world, detect_every=10)
    tracker(IMAGE)
    world.detector = lambda image: _without_first(detector(image))  # type: ignore[method-assign]
    for _ in range(8):
        assert [face.track for face in tracker(IMAGE)] == [1, 2]
    assert world.detected == 9


def _without_first(found: Detections) -> Detections:
    return Detections(found.boxes[1:], found.scores[1:])


def test_a_face_that_becomes_less_certain_is_confirmed_once() -> None:
    world = Fading(A, doubt=1.0)
    tracker = Tracker(world, max_faces=1, detect_every=1000)
    tracker(IMAGE)
    find = world.landmarks
    world.landmarks = lambda box: _less_certain(find(box))  # type: ignore[method-assign]
    for _ in range(10):
        assert len(tracker(IMAGE)) == 1
    assert world.detected == 2


def _less_certain(face: Landmarks) -> Landmarks:
    return Landmarks(face.points, face.scores, face.covariance * 4, face.box, face.score, face.scheme)
