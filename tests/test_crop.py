"""Face crops: where pixels land, aliasing, borders."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from keyposs_trt.crop import crop_faces
from keyposs_trt.geometry import crop_matrix, square_of_box, transform

SIZE = 128


def smooth_image(height: int, width: int) -> np.ndarray:
    """A picture of slow waves, different in each channel."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * y - 4 * x), np.sin(9 * x * y)]
    return np.stack([127 + 120 * w for w in waves], -1).astype(np.uint8)


def averaged(image: np.ndarray, square: list[float], fine: int = 4) -> np.ndarray:
    """The crop by brute force: the mean of fine x fine samples a pixel."""
    matrix = crop_matrix(square, SIZE) * fine
    matrix[:, 2] += (fine - 1) / 2
    large = cv2.warpAffine(image, matrix, (SIZE * fine, SIZE * fine), flags=cv2.INTER_LINEAR)
    return cv2.resize(large, (SIZE, SIZE), interpolation=cv2.INTER_AREA)[..., ::-1].astype(np.float64)


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7, 2.3, 3.1, 4.9, 7.7])
def test_crops_are_where_they_should_be(scale: float) -> None:
    image = smooth_image(1200, 1300)
    square = [640.3, 577.8, SIZE * scale]
    crops, matrices = crop_faces(image, [square], SIZE)
    assert crops.shape == (1, SIZE, SIZE, 3)
    assert crops.dtype == np.uint8
    np.testing.assert_allclose(matrices[0], crop_matrix(square, SIZE), atol=1e-9)
    # A shift of a fifth of a crop pixel in these waves would show as more than this.
    assert np.abs(crops[0] - averaged(image, square)).mean() < 0.6


@pytest.mark.parametrize("scale", [2.2, 3.0, 4.5, 8.0])
def test_large_faces_are_not_aliased(scale: float) -> None:
    board = np.indices((1100, 1100)).sum(0) % 2 * 255
    image = np.repeat(board[..., None], 3, -1).astype(np.uint8)
    crop = crop_faces(image, [[550, 550, SIZE * scale]], SIZE)[0][0].astype(float)
    assert crop[4:-4, 4:-4].std() < 40  # plain bilinear sampling leaves the full contrast of 127
    assert abs(crop.mean() - 127.5) < 3


def test_outside_the_image_is_black() -> None:
    image = np.full((200, 300, 3), 200, np.uint8)
    for side in (100, 600):
        crop = crop_faces(image, [[0, 0, side]], SIZE)[0][0]
        assert crop[: SIZE // 2 - 2].max() == 0
        assert crop[:, : SIZE // 2 - 2].max() == 0
        last = min(SIZE, round(SIZE / 2 + 200 * SIZE / side)) - 3
        assert crop[SIZE // 2 + 2 : last, SIZE // 2 + 2 : last].min() == 200


@pytest.mark.parametrize("square", [[-500, -500, 100], [5000, 20, 900], [20, 5000, 10], [1e7, 1e7, 1], [50, 50, 1e9]])
def test_far_and_huge_squares(square: list[float]) -> None:
    crops, _ = crop_faces(np.full((100, 100, 3), 90, np.uint8), [square], SIZE)
    assert crops.mean() < 1


def test_a_pixel_and_a_line() -> None:
    assert crop_faces(np.full((1, 1, 3), 90, np.uint8), [[0, 0, 1.25]], SIZE)[0][0, 64, 64].min() in (89, 90)
    assert crop_faces(np.full((1, 40_000, 3), 90, np.uint8), [[35_000, 0, 50]], SIZE)[0].max() > 60


def test_image_too_long_for_opencv() -> None:
    image = np.zeros((64, 40_000, 3), np.uint8)
    image[:, 39_000:] = (10, 20, 30)
    crops, _ = crop_faces(image, [[39_500, 32, 60]], 32)
    assert crops[0, 16, 16].tolist() == [30, 20, 10]


def test_several_and_none() -> None:
    image = smooth_image(300, 400)
    squares = square_of_box([[10, 20, 110, 120], [200, 50, 380, 290], [300, 200, 390, 250]])
    crops, matrices = crop_faces(image, squares, SIZE)
    assert crops.shape == (3, SIZE, SIZE, 3)
    np.testing.assert_array_equal(crops[1], crop_faces(image, squares[1:2], SIZE)[0][0])
    np.testing.assert_allclose(transform(matrices, squares[:, None, :2]), (SIZE - 1) / 2)
    crops, matrices = crop_faces(image, np.zeros((0, 3)), SIZE)
    assert crops.shape == (0, SIZE, SIZE, 3)
    assert matrices.shape == (0, 2, 3)


def test_views_of_larger_images() -> None:
    image = smooth_image(300, 800)
    half = image[:, ::2]
    np.testing.assert_array_equal(
        crop_faces(half, [[200, 150, 400]], SIZE)[0], crop_faces(np.ascontiguousarray(half), [[200, 150, 400]], SIZE)[0]
    )
