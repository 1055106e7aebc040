"""The filter on landmarks whose noise and motion are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keyposs_trt.detection import Detections
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.smoothing import FORGET, MOST_TRACKS, PLAIN, Settings, Smoother
from keyposs_trt.video.tracking import Tracker

COUNT = 68
IMAGE = np.zeros((480, 640, 3), np.uint8)
SHAPE = np.random.default_rng(5).uniform(0, 100, (COUNT, 2)).astype(np.float32) + np.float32(200)
EVEN = np.ones(COUNT, np.float32)


def face(points: np.ndarray, sd: np.ndarray = EVEN) -> Landmarks:
    p = np.asarray(points, np.float32)
    covariance = np.stack([sd**2, np.zeros(COUNT), sd**2], 1).astype(np.float32)
    box = np.concatenate([p.min(0), p.max(0)])
    return Landmarks(p, np.full(COUNT, 0.9, np.float32), covariance, box, 0.9, "300w", 7)


def run(smoother: Smoother, points: np.ndarray, sd: np.ndarray = EVEN, rate: float = 30.0) -> np.ndarray:
    """[T, L, 2] after the filter, of points [T, L, 2] at a rate in Hz."""
    return np.stack([smoother(1, face(p, sd), i / rate).points for i, p in enumerate(points)])


def still(count: int, noise: np.ndarray | float = 0.3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return SHAPE + rng.normal(0, 1, (count, COUNT, 2)) * np.broadcast_to(noise, COUNT)[:, None]


def jitter(points: np.ndarray) -> np.ndarray:
    """[L]: mean distance from one frame to the next, after the filter has settled."""
    return np.linalg.norm(np.diff(points[30:], axis=0), axis=-1).mean(0)


def wave(count: int, rate: float = 30.0) -> np.ndarray:
    """[T, 1, 2]: a face of 100 pixels that goes to and fro by 60."""
    t = np.arange(count) / rate
    return np.stack([60 * np.sin(np.pi * t), 20 * np.sin(2 * t)], -1)[:, None]


def test_a_still_face_is_calmed() -> None:
    points = still(120)
    after = run(Smoother(), points)
    assert jitter(after).mean() < 0.25 * jitter(points).mean()
    assert np.linalg.norm(after[-1] - SHAPE, axis=-1).mean() < 0.6 * np.linalg.norm(points[-1] - SHAPE, axis=-1).mean()


def test_a_moving_face_is_not_late() -> None:
    points, way = still(120) + wave(120), wave(120)
    lag = np.linalg.norm(run(Smoother(), points)[30:] - SHAPE - way[30:], axis=-1).mean()
    plain = np.linalg.norm(run(Smoother(plain=True), points)[30:] - SHAPE - way[30:], axis=-1).mean()
    raw = np.linalg.norm(points[30:] - SHAPE - way[30:], axis=-1).mean()
    assert lag < 1.05 * raw
    assert lag < 0.6 * plain


def test_a_point_that_moves_by_itself_is_followed() -> None:
    points = still(90)
    points[60:, 40, 1] += 8  # an eye closes: 8 % of the face
    after = run(Smoother(), points)
    assert abs(after[63, 40, 1] - points[60:, 40, 1].mean()) < 2
    assert np.abs(after[63] - SHAPE)[np.arange(COUNT) != 40].mean() < 0.3


def test_points_less_certain_than_the_others_are_calmer() -> None:
    sd = np.where(np.arange(COUNT) % 2, 4.0, 1.0).astype(np.float32)
    points = still(150, noise=0.4)
    after = jitter(run(Smoother(), points, sd))
    assert after[sd > 2].mean() < 0.6 * after[sd < 2].mean()
    alike = jitter(run(Smoother(), points))
    assert alike[sd > 2].mean() == pytest.approx(alike[sd < 2].mean(), rel=0.2)


def test_the_cutoff_is_inverse_to_the_uncertainty() -> None:
    sd = np.where(np.arange(COUNT) < 50, 1.0, 2.0).astype(np.float32)
    smoother = Smoother(settings=Settings(cutoff=2.0, slope=0.0, steer=1.0))
    after = run(smoother, np.stack([SHAPE, SHAPE + 1]), sd)[1] - SHAPE
    for expected, points in ((2.0, after[:50]), (1.0, after[50:])):
        assert points == pytest.approx(1 / (1 + 30 / (2 * np.pi * expected)), abs=1e-3)


def test_a_face_that_becomes_uncertain_is_calmer_for_a_while() -> None:
    """Noise that grows with the predicted uncertainty, in the first frames after the change."""

    def wander(sd: float) -> float:
        smoother = Smoother()
        run(smoother, still(60))
        after = [smoother(1, face(p, EVEN * np.float32(sd)), 2.0 + i / 30).points for i, p in enumerate(still(5, noise=1.2, seed=3))]
        return float(np.linalg.norm(np.diff(after, axis=0), axis=-1).mean())

    assert wander(4.0) < 0.3 * wander(1.0)


def test_noise_is_learned_not_assumed() -> None:
    for noise in (0.02, 0.2, 1.0):
        points = still(150, noise)
        assert jitter(run(Smoother(), points)).mean() < 0.25 * jitter(points).mean()


def test_the_size_of_the_picture_does_not_matter() -> None:
    points = still(60) + wave(60)
    big = run(Smoother(), points * 4, EVEN * 4)
    assert big == pytest.approx(run(Smoother(), points) * 4, abs=0.05)


def test_the_rate_matters_little() -> None:
    slow, fast = (run(Smoother(), still(n) + wave(n, rate), rate=rate) for n, rate in ((45, 15.0), (180, 60.0)))
    for n, rate, after in ((45, 15.0, slow), (180, 60.0, fast)):
        assert np.linalg.norm(after[n // 4 :] - SHAPE - wave(n, rate)[n // 4 :], axis=-1).mean() < 0.5


def test_plain_is_the_published_filter() -> None:
    settings = Settings(cutoff=1.0, slope=0.0)
    x = run(Smoother(plain=True, settings=settings), np.stack([SHAPE, SHAPE + 1, SHAPE + 1]))
    a = 1 / (1 + 30 / (2 * np.pi))
    assert x[1] == pytest.approx(SHAPE + a, abs=1e-3)
    assert x[2] == pytest.approx(SHAPE + a + a * (1 - a), abs=1e-3)
    assert PLAIN.steer == 0
    loud = Smoother(plain=True)
    assert run(loud, still(20), EVEN * 9).tolist() == run(Smoother(plain=True), still(20)).tolist()


def test_all_but_the_points_passes_through() -> None:
    smoother, points = Smoother(), still(3)
    for i, p in enumerate(points):
        given = face(p)
        after = smoother(1, given, i / 30)
        assert after.scores is given.scores
        assert after.covariance is given.covariance
        assert after.box is given.box
        assert (after.score, after.scheme, after.track) == (given.score, given.scheme, 7)
        assert (after.points.dtype, after.points.shape) == (np.float32, (COUNT, 2))
    assert not np.array_equal(after.points, given.points)


@pytest.mark.parametrize("time", [0.5, 1.0 + FORGET + 0.1])
def test_a_clock_that_jumps_begins_anew(time: float) -> None:
    smoother = Smoother()
    smoother(1, face(SHAPE), 0.96)
    smoother(1, face(SHAPE), 1.0)
    assert np.array_equal(smoother(1, face(SHAPE + 5), time).points, SHAPE + 5)


def test_a_face_that_jumps_begins_anew() -> None:
    smoother = Smoother()
    smoother(1, face(SHAPE), 0.0)
    assert np.array_equal(smoother(1, face(SHAPE + 150), 1 / 30).points, SHAPE + 150)


def test_a_frame_of_the_same_time_changes_nothing() -> None:
    smoother = Smoother()
    first = smoother(1, face(SHAPE), 0.0)
    assert np.array_equal(smoother(1, face(SHAPE + 3), 0.0).points, first.points)


def test_faces_do_not_mix() -> None:
    smoother, alone = Smoother(), Smoother()
    for i, (a, b) in enumerate(zip(still(20), still(20, seed=1) + 400, strict=True)):
        smoother(2, face(b), i / 30)
        assert np.array_equal(smoother(1, face(a), i / 30).points, alone(1, face(a), i / 30).points)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_do_no_harm(bad: float) -> None:
    smoother, points = Smoother(), still(5)
    for i, p in enumerate(points):
        smoother(1, face(p), i / 30)
    broken = points[0].copy()
    broken[3] = bad
    assert np.array_equal(smoother(1, face(broken), 0.2).points, np.asarray(broken, np.float32), equal_nan=True)
    sd = EVEN.copy()
    sd[3] = bad
    assert np.isfinite(smoother(1, face(points[0], sd), 0.25).points).all()
    assert np.isfinite(smoother(1, face(points[0]), 0.3).points).all()


def test_a_model_without_covariance_is_smoothed_too() -> None:
    points = still(120)
    after = run(Smoother(), points, EVEN * 0)
    assert np.isfinite(after).all()
    assert jitter(after).mean() < 0.3 * jitter(points).mean()


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_faces_that_are_gone_are_forgotten(step: float) -> None:
    smoother = Smoother()
    for i in range(MOST_TRACKS + 100):
        smoother(i, face(SHAPE), i * step)
    assert len(smoother._states) <= (MOST_TRACKS if step == 0 else FORGET / step + 1)


def test_a_crowd_is_smoothed() -> None:
    smoother, points = Smoother(), still(3)
    for i in range(3):
        for track in range(100):
            after = smoother(track, face(points[i]), i / 30)
            assert np.array_equal(after.points, np.asarray(points[i], np.float32)) == (i == 0)


class Replay:
    """A landmarker that finds one face after the other, whatever it is asked."""

    def __init__(self, faces: list[Landmarks]) -> None:
        self._faces = iter(faces)
        self._first = faces[0]

    def detector(self, image: np.ndarray) -> Detections:
        return Detections(self._first.box[None], np.ones(1, np.float32))

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> list[Landmarks]:
        return [replace(next(self._faces), box=boxes[0])]


def test_the_tracker_returns_smoothed_points_and_follows_the_raw_ones() -> None:
    given = [face(p) for p in still(20, noise=1.0) + wave(20)]
    plain, smooth = Tracker(Replay(given), max_faces=1), Tracker(Replay(given), max_faces=1, smoother=Smoother())
    twin = Smoother()
    for i in range(20):
        (raw,), (after,) = plain(IMAGE, i / 30), smooth(IMAGE, i / 30)
        assert np.array_equal(raw.points, given[i].points)
        assert np.array_equal(after.points, twin(1, given[i], i / 30).points)
        assert (raw.track, after.track) == (1, 1)
        assert np.array_equal(after.box, raw.box)  # the crops are the same
