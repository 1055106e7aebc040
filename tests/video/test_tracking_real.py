"""Tracking with the shipped model and detector: a photograph that moves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from keyposs_trt.landmarker import Landmarker
from keyposs_trt.models import model_names
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


@pytest.mark.parametrize("model", model_names())
def test_a_face_that_vanishes_is_let_go_soon_and_known_when_it_returns(model: str) -> None:
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    wall = cv2.resize(photo[250:500, :250], (512, 512))  # cloth, where the face was
    detect_every = 10
    with Landmarker.load(model, threads=1) as landmarker:
        tracker = Tracker(landmarker, max_faces=1, detect_every=detect_every, lost_score=landmarker.spec.lost_score)
        numbers = [[face.track for face in tracker(picture, i / 25)] for i, picture in enumerate([photo] * 4 + [wall] * 14 + [photo] * 2)]
    assert numbers[:4] == [[1]] * 4
    gone = numbers[4:18]
    assert sum(map(bool, gone)) <= detect_every + 1
    assert gone[-1] == []
    assert numbers[-2:] == [[1], [1]]  # away for less than a second


@pytest.mark.parametrize("model", model_names())
def test_a_face_that_stays_needs_one_detection(model: str) -> None:
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    rng = np.random.default_rng(0)
    runs: list[int] = []
    with Landmarker.load(model, threads=1) as landmarker:
        detector = landmarker.detector
        assert detector is not None
        landmarker.detector = lambda image: runs.append(1) or detector(image)  # type: ignore[func-returns-value]
        tracker = Tracker(landmarker, max_faces=1, detect_every=10, lost_score=landmarker.spec.lost_score)
        for i in range(20):
            noisy = np.clip(photo + rng.normal(0, 4, photo.shape), 0, 255).astype(np.uint8)
            assert [face.track for face in tracker(noisy, i / 25)] == [1]
    assert len(runs) == 1
