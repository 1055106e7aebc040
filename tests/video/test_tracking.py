"""Tracking with a landmarker made of rules: faces are known rectangles in each frame."""

from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.detection.detector import Detections
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.identity import iou
from keyposs_trt.video.tracking import Detect, FaceTracker, Locate, Tracker

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


def test_numbers_are_never_used_again() -> None:
    world = World(A)
    tracker = Tracker(world, detect_every=1)
    numbers = []
    for i in range(6):
        world.faces = {(A, B)[i % 2]: 0.8}
        numbers += [face.track for face in tracker(IMAGE, 10.0 * i)]
    assert numbers == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("away", "number"), [(0.5, 1), (0.9, 1), (1.2, 2)])
def test_a_face_found_again_soon_keeps_its_number(away: float, number: int) -> None:
    world = World(A)
    tracker = Tracker(world)
    tracker(IMAGE, 0.0)
    world.faces.clear()
    for time in np.arange(0.04, away, 0.04):
        assert tracker(IMAGE, float(time)) == []
    world.faces[tuple(np.add(A, 12))] = 0.8
    (face,) = tracker(IMAGE, away)
    assert face.track == number


def test_a_face_with_poor_landmarks_keeps_its_number() -> None:
    world = World(A)
    world.faces[A] = 0.2
    tracker = Tracker(world)
    assert [tracker(IMAGE)[0].track for _ in range(4)] == [1] * 4


class Glimpse(World):
    """As ``World``, but a crop finds the face nearest to its middle, and the face behind another is not seen."""

    def detector(self, image: np.ndarray) -> Detections:
        found = super().detector(image)
        front = iou(found.boxes, found.boxes[:1])[:, 0] < 0.3
        front[0] = True
        return Detections(found.boxes[front], found.scores[front])

    def landmarks(self, box: np.ndarray) -> Landmarks:
        visible = self.detector(IMAGE).boxes
        middle = (box[:2] + box[2:]) / 2
        nearest = visible[np.linalg.norm((visible[:, :2] + visible[:, 2:]) / 2 - middle, axis=1).argmin()]
        x1, y1, x2, y2 = nearest
        points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
        return Landmarks(points, np.full(4, 0.8, np.float32), np.zeros((4, 3), np.float32), box, 0.8, "300w")


def test_two_faces_that_cross_keep_their_numbers() -> None:
    tracker = Tracker(Glimpse(), detect_every=5)
    seen: set[int] = set()
    for i in range(31):
        front, back = (20.0 + 8 * i, 60.0, 60.0 + 8 * i, 100.0), (220.0 - 6 * i, 66.0, 260.0 - 6 * i, 106.0)
        tracker._landmarker.faces = {front: 0.8, back: 0.8}  # type: ignore[attr-defined]
        faces = tracker(IMAGE, i / 25)
        where = {face.track: boxes([face])[0] for face in faces}
        assert where[1] == front
        assert set(where) <= {1, 2}
        if 2 in where:
            assert where[2] == back
            seen.add(i)
    assert {0, 5, 25, 30} <= seen
    assert len(seen) < 31  # it was hidden for a while


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


def test_a_fast_face_is_looked_for_where_it_goes() -> None:
    world, face = World(A), A
    tracker = Tracker(world, detect_every=100)
    for i in range(4):
        (found,) = tracker(IMAGE, i / 25)
        face = world.move(face, 30)
    assert tuple(found.box) == pytest.approx(np.add(A, (84, 0, 84, 0)))  # 60 seen so far, and 0.8 of a step ahead
