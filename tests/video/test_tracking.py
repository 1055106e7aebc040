"""Finding faces and following them, in a made-up world: when the detector is asked, and whom a tracker lets go."""

from __future__ import annotations

import numpy as np
import pytest
from tracking_world import IMAGE, A, B, World, boxes

from keyposs_trt.detection.detector import Detections
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.tracking import Detect, FaceTracker, Locate, Tracker


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
    tracker = Tracker(world)
    tracker(IMAGE)
    world.detector = lambda image: Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))  # type: ignore[method-assign]
    for _ in range(14):
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


def test_a_fast_face_is_looked_for_where_it_goes() -> None:
    world, face = World(A), A
    tracker = Tracker(world, detect_every=100)
    for i in range(4):
        (found,) = tracker(IMAGE, i / 25)
        face = world.move(face, 30)
    assert tuple(found.box) == pytest.approx(np.add(A, (84, 0, 84, 0)))  # 60 seen so far, and 0.8 of a step ahead


def drive(tracker: FaceTracker, world: World, time: float) -> list[Landmarks]:
    """One frame by hand; no request may be for nothing."""
    step = tracker.step((300, 200), time)
    try:
        request = next(step)
        while True:
            if isinstance(request, Locate):
                assert request.boxes.shape[0] > 0
                assert request.boxes.shape[1:] == (4,)
                request = step.send(world(IMAGE, request.boxes))
            else:
                assert isinstance(request, Detect)
                request = step.send(world.detector(IMAGE))
    except StopIteration as end:
        return end.value


def test_a_stream_driven_by_requests() -> None:
    world, tracker = World(A, B), FaceTracker(detect_every=5)
    for i in range(12):
        faces = drive(tracker, world, i / 25)
        assert boxes(faces) == [A, B]
        assert [face.track for face in faces] == [1, 2]
    assert world.detected == 3
    world.faces.clear()
    assert drive(tracker, world, 1.0) == []


@pytest.mark.parametrize("requests", [0, 1, 2, 3])
def test_a_frame_that_is_given_up_leaves_no_trace(requests: int) -> None:
    world, tracker, twin = World(A), FaceTracker(detect_every=1), FaceTracker(detect_every=1)
    drive(tracker, world, 0.0)
    drive(twin, world, 0.0)
    world.faces[B] = 0.8
    step = tracker.step((300, 200), 0.04)  # asks for landmarks, the detector, and the landmarks of the new face
    answers = [lambda: next(step), lambda: step.send(world(IMAGE, np.array([A], np.float32))), lambda: step.send(world.detector(IMAGE))]
    for answer in answers[:requests]:
        answer()
    step.close()
    for time in (0.08, 0.12, 0.16):
        kept, fresh = drive(tracker, world, time), drive(twin, world, time)
        assert boxes(kept) == boxes(fresh)
        assert [face.track for face in kept] == [face.track for face in fresh]
        assert [tuple(face.box) for face in kept] == [tuple(face.box) for face in fresh]


def test_an_error_on_one_frame_does_not_end_the_video() -> None:
    world = World(A)
    tracker = Tracker(world, detect_every=100)
    tracker(IMAGE)
    find, world.landmarks = world.landmarks, lambda box: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    with pytest.raises(ZeroDivisionError):
        tracker(IMAGE)
    world.landmarks = find  # type: ignore[method-assign]
    (face,) = tracker(IMAGE)
    assert (face.track, world.detected) == (1, 1)


def test_without_a_detector_none_is_asked_for() -> None:
    tracker = FaceTracker(has_detector=False)
    with pytest.raises(StopIteration) as end:
        next(tracker.step((300, 200), 0.0))
    assert end.value.value == []
