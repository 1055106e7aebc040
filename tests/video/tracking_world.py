"""A made-up world for trackers: faces are known rectangles, and the landmarker is made of rules."""

from __future__ import annotations

import numpy as np

from keyposs_trt.detection.detector import Detections
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.identity import iou

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
