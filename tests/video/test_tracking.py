"""Tracking with a landmarker made of rules: faces are known rectangles in each frame."""

from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.detection.detector import Detections
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.tracking import Tracker, distinct, iou

IMAGE = np.zeros((200, 300, 3), np.uint8)
A, B = (50, 50, 90, 90), (200, 60, 250, 110)


class World:
    """Detector and landmarker in one: ``faces`` holds the boxes that are truly there, with their landmark score.

    A crop that overlaps a face finds its four corners; any other crop finds nonsense of score 0.1 in its own corners.
    """

    def __init__(self, *faces: tuple[float, ...]) -> None:
        self.faces = dict.fromkeys(faces, 0.8)
        self.detected = 0
        self.crops = 0

    def detector(self, image: np.ndarray) -> Detections:
        self.detected += 1
        return Detections(np.array(list(self.faces), np.float32).reshape(-1, 4), np.linspace(0.95, 0.5, len(self.faces), dtype=np.float32))

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> list[Landmarks]:
        self.crops += len(boxes)
        return [self.landmarks(box) for box in boxes]

    def landmarks(self, box: np.ndarray) -> Landmarks:
        near = [(o, f) for f in self.faces if (o := float(iou(box[None], np.array([f], np.float32))[0, 0])) > 0.2]
        found, score = (max(near)[1], self.faces[max(near)[1]]) if near else (box, 0.1)
        x1, y1, x2, y2 = found
        points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
        scores = np.full(4, score, np.float32)
        return Landmarks(points, scores, np.zeros((4, 3), np.float32), box.astype(np.float32), score, "300w")

    def move(self, old: tuple[float, ...], dx: float, dy: float = 0) -> tuple[float, ...]:
        new = (old[0] + dx, old[1] + dy, old[2] + dx, old[3] + dy)
        self.faces = {new if f == old else f: s for f, s in self.faces.items()}
        return new


def boxes(faces: list[Landmarks]) -> list[tuple[float, ...]]:
    return [tuple(f.points[0]) + tuple(f.points[2]) for f in faces]


def test_a_moving_face_is_followed_with_one_detection() -> None:
    world, face = World(A), A
    tracker = Tracker(world, detect_every=100)
    for i in range(20):
        (found,) = tracker(IMAGE)
        assert boxes([found]) == [face]
        assert found.score == pytest.approx(0.95 if i == 0 else 0.8)  # the detector's, then the landmarks'
        face = world.move(face, 8)
    assert world.detected == 1
    assert world.crops == 20


def test_the_crop_comes_from_the_landmarks_of_the_last_frame() -> None:
    world = World(A)
    tracker = Tracker(world)
    tracker(IMAGE)
    moved = world.move(A, 10)
    (found,) = tracker(IMAGE)
    assert tuple(found.box) == A
    assert boxes([found]) == [moved]


def test_new_faces_are_found_on_every_nth_frame() -> None:
    world = World(A)
    tracker = Tracker(world, detect_every=5)
    tracker(IMAGE)
    world.faces[B] = 0.8
    counts = [len(tracker(IMAGE)) for _ in range(12)]
    assert counts == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]
    assert world.detected == 3
    assert boxes(tracker(IMAGE)) == [A, B]  # the followed face stays first


def test_a_face_that_jumps_away_is_found_again_in_the_same_frame() -> None:
    world = World(A)
    tracker = Tracker(world, detect_every=100)
    tracker(IMAGE)
    jumped = world.move(A, 150)
    assert boxes(tracker(IMAGE)) == [jumped]
    assert world.detected == 2
    tracker(IMAGE)
    assert world.detected == 2


def test_a_face_that_leaves_is_dropped_and_the_other_stays() -> None:
    world = World(A, B)
    tracker = Tracker(world, detect_every=100)
    tracker(IMAGE)
    del world.faces[A]
    assert boxes(tracker(IMAGE)) == [B]
    assert world.detected == 2
    assert [boxes(tracker(IMAGE)) for _ in range(5)] == [[B]] * 5
    assert world.detected == 2  # not again for the one that is gone


def test_an_empty_scene_asks_the_detector_on_every_frame() -> None:
    world = World()
    tracker = Tracker(world, detect_every=100)
    assert [tracker(IMAGE) for _ in range(4)] == [[]] * 4
    assert world.detected == 4
    world.faces[A] = 0.8
    assert boxes(tracker(IMAGE)) == [A]


def test_a_face_with_poor_landmarks_is_shown_while_the_detector_sees_it() -> None:
    world = World(A)
    world.faces[A] = 0.2
    tracker = Tracker(world, detect_every=100)
    assert [boxes(tracker(IMAGE)) for _ in range(3)] == [[A]] * 3
    assert world.detected == 3
    assert world.crops == 3


@pytest.mark.parametrize("step", [(-15, 0), (0, 15)])
def test_a_face_is_let_go_when_half_of_it_is_out_of_the_frame(step: tuple[int, int]) -> None:
    world, face = World(A), A
    world.detector = lambda image: Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))  # type: ignore[method-assign]
    tracker = Tracker(world)
    tracker._boxes = np.array([A], np.float32)
    for _ in range(20):
        face = world.move(face, *step)
        found = tracker(IMAGE)
        inside = np.clip(face, 0, [300, 200, 300, 200])
        assert bool(found) == ((inside[2] - inside[0]) * (inside[3] - inside[1]) >= 0.5 * 40 * 40)
        if not found:
            return
    pytest.fail("the face was never let go")


@pytest.mark.parametrize("box", [(50, 50, 54, 54), (70, 70, 70, 70), (50, 69, 90, 70), (45, 45, 62, 62), (10, 10, 190, 190)])
def test_a_box_that_shrinks_to_nothing_or_explodes_is_not_followed(box: tuple[float, ...]) -> None:
    world = World(A)
    tracker = Tracker(world, detect_every=100)
    tracker(IMAGE)
    world.landmarks = lambda crop: _at(box, crop)  # type: ignore[method-assign]
    world.faces.clear()
    assert tracker(IMAGE) == []


def _at(box: tuple[float, ...], crop: np.ndarray) -> Landmarks:
    x1, y1, x2, y2 = box
    points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
    return Landmarks(points, np.full(4, 0.9, np.float32), np.zeros((4, 3), np.float32), crop, 0.9, "300w")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_landmarks_that_are_not_finite_are_not_followed(bad: float) -> None:
    world = World(A)
    tracker = Tracker(world, detect_every=100)
    tracker(IMAGE)
    world.landmarks = lambda crop: _at((bad, 0, 50, 50), crop)  # type: ignore[method-assign]
    world.faces.clear()
    assert tracker(IMAGE) == []


def test_two_crops_that_drift_onto_one_face_become_one() -> None:
    world = World(A, (95, 50, 135, 90))
    tracker = Tracker(world, detect_every=100)
    assert len(tracker(IMAGE)) == 2
    world.faces = {(72, 50, 112, 90): 0.8}  # overlaps both old boxes
    assert boxes(tracker(IMAGE)) == [(72, 50, 112, 90)]


def test_two_detections_of_one_face_become_one() -> None:
    world = World(A)
    both = np.array([A, np.add(A, 8)], np.float32)
    world.detector = lambda image: Detections(both, np.array([0.9, 0.8], np.float32))  # type: ignore[method-assign]
    assert boxes(Tracker(world)(IMAGE)) == [A]


def test_a_face_with_poor_landmarks_beside_a_good_one_asks_the_detector_again() -> None:
    world = World(A, B)
    world.faces[B] = 0.2
    tracker = Tracker(world, detect_every=100)
    assert [boxes(tracker(IMAGE)) for _ in range(3)] == [[A, B]] * 3
    assert world.detected == 3


def test_max_faces_keeps_those_followed_and_then_the_best() -> None:
    world = World(A, B)
    tracker = Tracker(world, max_faces=1, detect_every=2)
    assert boxes(tracker(IMAGE)) == [A]
    world.faces = {B: 0.8, A: 0.8}  # now the detector likes B better
    assert [boxes(tracker(IMAGE)) for _ in range(4)] == [[A]] * 4
    assert world.detected == 1  # with no room for more there is nothing to look for


def test_no_detector() -> None:
    world = World(A)
    world.detector = None  # type: ignore[assignment]
    assert Tracker(world)(IMAGE) == []


def test_iou() -> None:
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 5]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert iou(a, b) == pytest.approx(np.array([[1, 1 / 3, 0], [0, 0, 0]]))
    assert iou(a, b[:0]).shape == (2, 0)


def test_distinct_keeps_the_first() -> None:
    world = World(A, B)
    first, other = (world.landmarks(np.array(b, np.float32)) for b in (A, B))
    again = world.landmarks(np.array(A, np.float32) + 3)
    assert distinct([first, again, other]) == [first, other]
    assert distinct([]) == []
