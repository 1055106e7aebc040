"""Face crops: squares of an image, warped to the network's input.

Evaluation, calibration and the runtime all crop with this function, so that the network sees one kind of picture;
training warps by the same matrix with random changes in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from keyposs_trt.geometry import crop_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Image pixels per crop pixel that bilinear sampling is left to bridge after the area average: less blurs, more
# aliases.
_BILINEAR_SCALE = 1.4


class Region(NamedTuple):
    """The part of an image that a crop is sampled from: pixels [left, right) x [top, bottom), averaged by ``factor`` before that."""

    left: int
    top: int
    right: int
    bottom: int
    factor: int


def crop_faces(image: NDArray[np.uint8], squares: ArrayLike, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cuts squares out of an image and scales each to ``size`` pixels; what lies outside the image is black.

    Where a square holds more than about two image pixels per crop pixel, the region is averaged down first,
    so that large faces are not aliased.

    Args:
        image: [H, W, 3] uint8, BGR as OpenCV reads it.
        squares: [F, 3] centre x, centre y, side in image pixels, as ``geometry.square_of_box`` gives them.
        size: S, side of the crops in pixels.

    Returns:
        crops: [F, S, S, 3] uint8, RGB.
        matrices: [F, 2, 3] float64, affine maps from image pixels to crop pixels.
    """
    import cv2

    rows = np.asarray(squares, np.float64).reshape(-1, 3)
    crops = np.zeros((len(rows), size, size, 3), np.uint8)
    matrices = np.zeros((len(rows), 2, 3))
    for crop, matrix, square in zip(crops, matrices, rows, strict=True):
        matrix[:] = crop_matrix(square.tolist(), size)
        region, to_image = shrunk_region(image, square, size)
        if region.size:
            warp = matrix[:, :2] @ to_image
            warp[:, 2] += matrix[:, 2]
            bgr = cv2.warpAffine(region, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=crop)
    return crops, matrices


def shrunk_region(image: NDArray[np.uint8], square: NDArray[np.float64], size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of the image that a square needs, averaged over whole blocks of pixels where it is large.

    It is cut out even where it is not shrunk, as OpenCV warps no image of more than 32767 pixels a side.

    Returns:
        region: the part; empty where the square lies outside the image.
        to_image: [2, 3] affine map from region pixels to image pixels.
    """
    import cv2

    left, top, right, bottom, factor = region_of_square(square, size, image.shape[1], image.shape[0])
    columns, rows = max(1, (right - left) // factor), max(1, (bottom - top) // factor)
    # Whole blocks are several times faster than fractions of pixels; the part of a block left over lies on the rim.
    region = image[top:bottom, left:right][: rows * factor, : columns * factor]
    across, down = region.shape[1] / columns, region.shape[0] / rows
    to_image = np.array([[across, 0, left + (across - 1) / 2], [0, down, top + (down - 1) / 2]])
    if region.size and factor > 1:
        region = cast("NDArray[np.uint8]", cv2.resize(region, (columns, rows), interpolation=cv2.INTER_AREA))
    return region, to_image


def region_of_square(square: NDArray[np.floating], size: int, width: int, height: int, angle: float = 0.0) -> Region:
    """The part of an image of ``width`` x ``height`` pixels that a square needs, with a rim to interpolate from.

    Args:
        square: [3] centre x, centre y, side in image pixels.
        size: side of the crop in pixels.
        width: of the image.
        height: of the image.
        angle: rotation of the square in radians.
    """
    x, y, side = square.tolist()
    factor = max(1, round(side / size / _BILINEAR_SCALE))
    reach = side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle))) + 2 * factor
    left, right = _range(x, reach, width)
    top, bottom = _range(y, reach, height)
    return Region(left, top, right, bottom, factor)


def _range(centre: float, reach: float, length: int) -> tuple[int, int]:
    """First pixel and the one after the last within ``reach`` of ``centre``, inside an image of that length."""
    first = min(max(math.floor(centre - reach), 0), length)
    return first, min(max(math.ceil(centre + reach) + 1, first), length)
