"""Boxes, crops and affine maps.

Pixel centres lie at whole numbers, as in OpenCV. A crop is the square of side ``scale * max(w, h)`` about the
centre of a box; the centre of the box falls on the centre of the crop, ``(size - 1) / 2``, so that mirroring the
crop and mirroring the image agree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def square_of_box(boxes: ArrayLike, scale: float = 1.25) -> NDArray[np.float32]:
    """Centre and side of the crop squares of boxes.

    Args:
        boxes: [..., 4] x1 y1 x2 y2 in image pixels.
        scale: side of the square over the longer side of the box.

    Returns:
        [..., 3] float32: centre x, centre y, side (at least 1 pixel).
    """
    b = np.asarray(boxes, np.float32)
    low, high = b[..., :2], b[..., 2:]
    out = np.empty((*b.shape[:-1], 3), np.float32)
    out[..., :2] = (low + high) / 2
    out[..., 2] = np.maximum((high - low).max(-1) * np.float32(scale), 1)
    return out


def box_of_points(points: ArrayLike) -> NDArray[np.float32]:
    """[..., 4] float32 x1 y1 x2 y2: the smallest box around points [..., L, 2]."""
    p = np.asarray(points, np.float32)
    return np.concatenate([p.min(-2), p.max(-2)], -1)


def crop_matrix(square: Sequence[float] | NDArray[np.float32], size: int, angle: float = 0.0) -> NDArray[np.float64]:
    """Affine map from image pixels to crop pixels.

    Args:
        square: centre x, centre y, side in image pixels.
        size: side of the crop in pixels.
        angle: rotation of the square in radians, clockwise as seen on the screen (y points down).

    Returns:
        [2, 3] float64 matrix M with crop = M @ (x, y, 1).
    """
    cx, cy, side = (float(v) for v in square)
    k, middle = size / side, (size - 1) / 2
    c, s = k * math.cos(angle), k * math.sin(angle)
    return np.array([[c, s, middle - c * cx - s * cy], [-s, c, middle + s * cx - c * cy]])


def invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of affine maps [..., 2, 3]."""
    rows = []
    for a, b, x, c, d, y in np.reshape(matrix, (-1, 6)).tolist():  # there are few: plain numbers are quicker than arrays of them
        scale = 1 / (a * d - b * c)
        rows.append((d * scale, -b * scale, (b * y - d * x) * scale, -c * scale, a * scale, (c * x - a * y) * scale))
    return np.array(rows, np.float64).reshape(np.shape(matrix))


def transform(matrix: NDArray[np.float64], points: ArrayLike) -> NDArray[np.float32]:
    """Points [..., L, 2] through affine maps [..., 2, 3], as float32."""
    out = np.asarray(points, np.float64) @ matrix[..., :2].swapaxes(-1, -2)
    out += matrix[..., None, :, 2]
    return cast("NDArray[np.float32]", out.astype(np.float32))


def transform_covariance(matrix: NDArray[np.float64], covariance: ArrayLike) -> NDArray[np.float32]:
    """Covariances [..., L, 3] (xx, xy, yy) through the linear part A of affine maps [..., 2, 3]: A C A^T, as float32."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    # Linear in (xx, xy, yy): one product instead of two for every point.
    product = np.empty((*matrix.shape[:-2], 3, 3))
    product[..., 0, 0], product[..., 0, 1], product[..., 0, 2] = a * a, a * c, c * c
    product[..., 1, 0], product[..., 1, 1], product[..., 1, 2] = 2 * a * b, a * d + b * c, 2 * c * d
    product[..., 2, 0], product[..., 2, 1], product[..., 2, 2] = b * b, b * d, d * d
    out = np.asarray(covariance, np.float64) @ product
    return cast("NDArray[np.float32]", out.astype(np.float32))
