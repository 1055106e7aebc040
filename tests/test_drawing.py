"""Drawn landmarks: what is seen where."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from keyposs_trt.drawing import draw_landmarks, uncertain_points
from keyposs_trt.errors import UsageError
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.schemes import load_scheme, scheme_names

RED, GREEN, ORANGE = (60, 60, 255), (90, 230, 60), (60, 170, 255)


def face(scheme: str = "300w", size: float = 400, centre: float = 300) -> Landmarks:
    """Points on a spiral, all certain."""
    count = len(load_scheme(scheme))
    i = np.arange(count)
    points = np.stack([np.cos(2.4 * i), np.sin(2.4 * i)], -1) * np.sqrt((i + 1) / count)[:, None] * size / 2 + centre
    box = np.array([centre - size / 2, centre - size / 2, centre + size / 2, centre + size / 2])
    covariance = np.tile(np.array([1, 0, 1]), (count, 1))
    return Landmarks(
        points.astype(np.float32), np.full(count, 0.9, np.float32), covariance.astype(np.float32), box.astype(np.float32), 0.9, scheme
    )


def changed(face: Landmarks, i: int, *, score: float | None = None, covariance: tuple[float, float, float] | None = None) -> Landmarks:
    scores, covariances = face.scores.copy(), face.covariance.copy()
    scores[i] = face.scores[i] if score is None else score
    covariances[i] = face.covariance[i] if covariance is None else covariance
    return dataclasses.replace(face, scores=scores, covariance=covariances)


def near(image: np.ndarray, colour: tuple[int, int, int], point: np.ndarray, reach: int) -> int:
    """Pixels of a colour within ``reach`` of a point."""
    x, y = np.round(point).astype(int)
    part = image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].astype(int)
    return int((np.abs(part - colour).max(-1) < 30).sum())


@pytest.fixture
def image() -> np.ndarray:
    return np.full((600, 600, 3), 128, np.uint8)


@pytest.mark.parametrize("scheme", scheme_names())
def test_every_point_of_every_scheme_is_drawn(image: np.ndarray, scheme: str) -> None:
    f = face(scheme, 500)
    out = draw_landmarks(image, [f])
    assert all(near(out, GREEN, point, 2) >= 5 for point in f.points)


def test_works_on_a_copy(image: np.ndarray) -> None:
    out = draw_landmarks(image, [face()])
    assert (image == 128).all()
    assert out.shape == image.shape
    assert (out != 128).any()


def test_lines_join_the_points_of_the_scheme(image: np.ndarray) -> None:
    f = face()
    out = draw_landmarks(image, [f])
    middle = (f.points[0] + f.points[1]) / 2
    assert near(out, (255, 225, 150), middle, 2) > 0


def test_doubtful_points_are_orange(image: np.ndarray) -> None:
    f = changed(face(), 40, score=0.55)
    assert near(draw_landmarks(image, [f]), ORANGE, f.points[40], 2) >= 5


def test_uncertain_points_are_red_rings_without_lines(image: np.ndarray) -> None:
    f = changed(face(), 1, score=0.1)
    out = draw_landmarks(image, [f])
    assert near(out, RED, f.points[1], 8) > 4
    x, y = np.round(f.points[1]).astype(int)
    assert out[y, x].tolist() == [128, 128, 128]  # hollow
    assert near(out, (255, 225, 150), (f.points[0] + f.points[1]) / 2, 2) == 0
    assert uncertain_points(f).nonzero()[0].tolist() == [1]


def test_scores_count_relative_to_the_face() -> None:
    f = face()
    dim = dataclasses.replace(f, scores=f.scores / 5)
    assert not uncertain_points(dim).any()
    assert uncertain_points(changed(dim, 7, score=0.08)).nonzero()[0].tolist() == [7]
    assert uncertain_points(dataclasses.replace(f, scores=f.scores / 20)).all()  # no map has a peak


def test_wide_covariance_is_an_ellipse_along_it(image: np.ndarray) -> None:
    sigma = 32.0  # pixels along x; 2 along y
    f = changed(face(), 30, covariance=(sigma**2, 0, 4))
    out = draw_landmarks(image, [f])
    assert uncertain_points(f).nonzero()[0].tolist() == [30]
    assert near(out, RED, f.points[30] + [2 * sigma, 0], 3) > 0
    assert near(out, RED, f.points[30] + [0, 2 * sigma], 3) == 0
    slanted = changed(face(), 30, covariance=(1024, 1014, 1024))
    out = draw_landmarks(image, [slanted])
    assert near(out, RED, f.points[30] + [45 * 2**0.5, 45 * 2**0.5], 5) > 0
    assert near(out, RED, f.points[30] + [45 * 2**0.5, -45 * 2**0.5], 5) == 0


def test_sizes_follow_the_face() -> None:
    canvas = np.full((2200, 2200, 3), 128, np.uint8)
    small, large = (draw_landmarks(canvas, [face(size=s, centre=1100)]) for s in (200, 2000))
    point = face(size=2000, centre=1100).points[67]
    assert near(large, GREEN, point, 30) > 300
    assert near(small, GREEN, face(size=200, centre=1100).points[67], 30) < 60


def test_box(image: np.ndarray) -> None:
    f = face()
    assert near(draw_landmarks(image, [f], boxes=True), (200, 200, 200), f.box[:2], 2) > 0
    assert near(draw_landmarks(image, [f]), (200, 200, 200), f.box[:2], 2) == 0


def test_points_far_away_not_finite_or_all_the_same(image: np.ndarray) -> None:
    f = face()
    points = f.points.copy()
    points[:3] = [[np.nan, 5], [np.inf, 5], [1e12, -1e12]]
    covariance = np.full_like(f.covariance, np.nan)
    assert draw_landmarks(image, [dataclasses.replace(f, points=points, covariance=covariance)]).shape == image.shape
    same = dataclasses.replace(f, points=np.full_like(f.points, 300))
    assert (draw_landmarks(image, [same]) != 128).any()
    none = dataclasses.replace(f, points=np.full_like(f.points, np.nan))
    assert (draw_landmarks(image, [none]) == 128).all()


def test_grey_image_becomes_colour() -> None:
    out = draw_landmarks(np.full((600, 600), 128, np.uint8), [face()])
    assert out.shape == (600, 600, 3)
    assert draw_landmarks(np.full((6, 6), 1, np.uint8), []).shape == (6, 6, 3)


def test_points_that_do_not_belong_to_the_scheme(image: np.ndarray) -> None:
    with pytest.raises(UsageError, match="has 68 points"):
        draw_landmarks(image, [dataclasses.replace(face(), scheme="wflw")])


def test_a_view_of_a_frame_can_be_drawn_on() -> None:
    frame = np.full((600, 1200, 3), 128, np.uint8)[:, ::-1][:, 300:900]
    out = draw_landmarks(frame, [face()])
    cv2.circle(out, (5, 5), 3, (0, 0, 0))  # the copy is one OpenCV can write to
    assert out.shape == (600, 600, 3)
