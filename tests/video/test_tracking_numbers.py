"""The numbers that tell faces apart: kept while a face is followed, found again or crossed by another, and never used again."""

from __future__ import annotations

import numpy as np
import pytest
from tracking_world import IMAGE, A, B, World, boxes

from keyposs_trt.detection.detector import Detections
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.identity import iou
from keyposs_trt.video.tracking import Tracker


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
