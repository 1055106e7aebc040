"""Tracking with the shipped model and detector: a photograph that moves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from keyposs_trt.landmarker import Landmarker
from keyposs_trt.video.tracking import Tracker

PHOTO = Path(__file__).resolve().parents[2] / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def landmarker() -> Landmarker:
    return Landmarker.load(threads=1)


def motion(i: int) -> np.ndarray:
    """[2, 3]: the photograph drifts, turns and grows."""
    turn = cv2.getRotationMatrix2D((230, 110), 6 * np.sin(i / 5), 0.9 + 0.01 * i)
    turn[:, 2] += (60 * np.sin(i / 6) - 40, 60 + 2 * i)
    return turn


def test_landmarks_stay_on_a_face_that_moves(landmarker: Landmarker, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = cv2.imread(str(PHOTO))
    (still,) = landmarker(photo)  # type: ignore[arg-type]
    runs, detector = [], landmarker.detector
    monkeypatch.setattr(landmarker, "detector", lambda image: runs.append(1) or detector(image))  # type: ignore[misc]
    tracker = Tracker(landmarker, detect_every=10)
    for i in range(24):
        matrix = motion(i)
        frame = cv2.warpAffine(photo, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        (face,) = tracker(frame)
        truth = still.points @ matrix[:, :2].T + matrix[:, 2]
        width = np.linalg.norm(truth[45] - truth[36])  # outer eye corners
        assert np.linalg.norm(face.points - truth, axis=1).mean() < 0.06 * width
    assert len(runs) == 3  # frames 0, 10 and 20


def test_a_cut_to_another_scene(landmarker: Landmarker) -> None:
    photo = cv2.imread(str(PHOTO))
    moved = cv2.warpAffine(photo, np.float32([[1, 0, -120], [0, 1, 150]]), (512, 512), borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    wall = np.full_like(photo, 128)
    tracker = Tracker(landmarker, detect_every=1000)
    here, there = tracker(photo)[0], tracker(moved)[0]  # type: ignore[arg-type]
    assert np.abs(there.points - here.points - (-120, 150)).mean() < 3
    assert tracker(wall) == []  # type: ignore[arg-type]
    assert np.abs(tracker(photo)[0].points - here.points).mean() < 3  # type: ignore[arg-type]
