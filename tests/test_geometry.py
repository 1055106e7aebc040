"""Boxes, crops and affine maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyposs_trt.geometry import box_of_points, crop_matrix, invert, square_of_box, transform, transform_covariance

pixel = st.floats(-2000, 2000)
side = st.floats(1, 2000)
angle = st.floats(-7, 7)


def test_square_of_box() -> None:
    squares = square_of_box([[10, 20, 30, 60], [0, 0, 8, 2]])
    np.testing.assert_allclose(squares, [[20, 40, 50], [4, 1, 10]])
    assert squares.dtype == np.float32


def test_square_has_a_side_of_a_pixel_at_least() -> None:
    np.testing.assert_array_equal(square_of_box([5, 6, 5, 6]), [5, 6, 1])
    np.testing.assert_array_equal(square_of_box([5, 6, 4, 2])[2], 1)


def test_square_with_another_scale_and_any_leading_shape() -> None:
    assert square_of_box(np.zeros((2, 3, 4)), scale=2).shape == (2, 3, 3)
    assert square_of_box([0, 0, 10, 6], scale=2)[2] == 20


def test_box_of_points() -> None:
    points = np.array([[[1, 9], [4, 2], [3, 3]], [[0, 0], [0, 0], [5, 1]]])
    np.testing.assert_array_equal(box_of_points(points), [[1, 2, 4, 9], [0, 0, 5, 1]])


@given(pixel, pixel, side, st.integers(2, 512), angle)
def test_centre_of_the_square_is_the_centre_of_the_crop(x: float, y: float, s: float, size: int, turn: float) -> None:
    centre = transform(crop_matrix([x, y, s], size, turn), [[x, y]])
    np.testing.assert_allclose(centre, [[(size - 1) / 2] * 2], atol=2e-3)


def test_edges_of_the_square_are_the_edges_of_the_crop() -> None:
    # Pixel centres lie at whole numbers: the crop of 128 pixels reaches from -0.5 to 127.5.
    corners = transform(crop_matrix([50, 60, 32], 128), [[34, 44], [66, 76]])
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [127.5, 127.5]])


def test_angle_turns_the_square_clockwise() -> None:
    # The square is turned by 90 degrees clockwise: its right edge looks down in the image.
    point = transform(crop_matrix([0, 0, 100], 100, np.pi / 2), [[0, 10]])
    np.testing.assert_allclose(point, [[59.5, 49.5]], atol=1e-4)


@given(pixel, pixel, side, angle, pixel, pixel)
def test_inverse(x: float, y: float, s: float, turn: float, px: float, py: float) -> None:
    matrix = crop_matrix([x, y, s], 128, turn)
    there = np.array([[px, py, 1]]) @ matrix.T
    np.testing.assert_allclose(there @ invert(matrix)[:, :2].T + invert(matrix)[:, 2], [[px, py]], atol=1e-6)


def test_inverse_and_transform_of_a_batch() -> None:
    matrices = np.stack([crop_matrix([10 * i, 5, 20 + i], 64, 0.1 * i) for i in range(3)])
    points = np.random.default_rng(0).random((3, 7, 2)) * 50
    back = transform(invert(matrices), transform(matrices, points))
    np.testing.assert_allclose(back, points, atol=1e-4)
    np.testing.assert_allclose(transform(matrices, points)[1], transform(matrices[1], points[1]))
    assert transform(invert(np.zeros((0, 2, 3))), np.zeros((0, 7, 2))).shape == (0, 7, 2)


@pytest.mark.parametrize("turn", [0.0, 0.7, np.pi / 2])
def test_covariance_goes_with_the_points(turn: float) -> None:
    rng = np.random.default_rng(0)
    matrix = crop_matrix([30, 40, 256], 128, turn)
    points = rng.multivariate_normal([0, 0], [[4, 1.5], [1.5, 2]], 50_000)
    sample = np.cov(transform(matrix, points).T)
    mapped = transform_covariance(matrix, [[4, 1.5, 2]])[0]
    np.testing.assert_allclose(mapped, [sample[0, 0], sample[0, 1], sample[1, 1]], atol=0.03)
    assert mapped.dtype == np.float32


def test_covariance_of_a_batch() -> None:
    matrices = np.stack([crop_matrix([0, 0, s], 64, 0.3) for s in (16, 32)])
    covariance = np.random.default_rng(0).random((2, 5, 3))
    mapped = transform_covariance(matrices, covariance)
    np.testing.assert_allclose(mapped[1], transform_covariance(matrices[1], covariance[1]))
    assert mapped.shape == (2, 5, 3)
