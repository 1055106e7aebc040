"""The published decoders one map at a time, in plain loops, as research code is released: ``gn``, ``lls`` and ``dark``.

A second opinion on ``keyposs_trt.decode`` for its tests, and what benchmarks/decode.py measures its speed against. Written from the
descriptions (KeyPosS, arXiv 2305.16437; DARK, arXiv 1910.06278), without anything of the package. No care is taken of maps that a
network does not emit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Map = NDArray[np.floating]
    Point = tuple[float, float]


def peak_of(heatmap: Map) -> tuple[int, int]:
    """Column and row of the largest value, the first of equals."""
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    return int(column), int(row)


def range_of(value: float, sigma: float) -> float:
    """Range in heatmap pixels that a map value stands for."""
    return math.sqrt(-2 * sigma**2 * math.log(min(max(value, 1e-9), 1.0)))


def gn(heatmap: Map, sigma: float = 2.0, anchors: int | None = None) -> Point:
    """Gauss-Newton on the largest values of the map."""
    height, width = heatmap.shape
    count = anchors or {8: 15, 4: 10}.get(height, 30)
    stations = []
    for index in np.argsort(-heatmap.ravel(), kind="stable")[:count]:
        row, column = divmod(int(index), width)
        stations.append((column, row, range_of(float(heatmap[row, column]), sigma)))

    x, y = peak_of(heatmap)
    last_cost = 0.0
    for iteration in range(20):
        hessian, right, cost = np.zeros((2, 2)), np.zeros(2), 0.0
        for ax, ay, distance in stations:
            error = (ax - x) ** 2 + (ay - y) ** 2 - distance**2
            slope = np.array([2 * (x - ax), 2 * (y - ay)])
            hessian += np.outer(slope, slope)
            right -= error * slope
            cost += error**2
        if iteration > 0 and cost >= last_cost:
            break
        step = np.linalg.solve(hessian, right)
        x, y, last_cost = x + step[0], y + step[1], cost
    return float(x), float(y)


def lls(heatmap: Map, sigma: float = 2.0, border_quirk: bool = True) -> Point:
    """Linear least squares on the brightest 2x2 block near the peak."""
    height, width = heatmap.shape
    column, row = peak_of(heatmap)
    ends = 1 if border_quirk else 0
    best, block = -math.inf, None
    for top in range(max(row - 2, 0), min(row, height - 2 - ends) + 1):
        for left in range(max(column - 2, 0), min(column, width - 2 - ends) + 1):
            total = float(heatmap[top : top + 2, left : left + 2].sum(dtype=np.float64))
            if total >= best:
                best, block = total, (left, top)
    if block is None:
        return float(column), float(row)

    left, top = block
    stations = [(left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)]
    distances = [range_of(float(heatmap[y, x]), sigma) for x, y in stations]
    (rx, ry), last = stations[-1], distances[-1]
    X, Y = np.zeros((3, 2)), np.zeros(3)
    for i in range(3):
        x, y = stations[i]
        X[i] = rx - x, ry - y
        Y[i] = (distances[i] ** 2 - last**2 + rx**2 + ry**2 - x**2 - y**2) / 2
    p = np.linalg.inv(X.T @ X) @ X.T @ Y
    return float(p[0]), float(p[1])


def dark(heatmap: Map, kernel: int = 11) -> Point:
    """Newton step on the logarithm of the blurred map."""
    height, width = heatmap.shape
    column, row = peak_of(heatmap)
    if not (1 < column < width - 2 and 1 < row < height - 2):
        return float(column), float(row)
    blurred = blur(heatmap, kernel)
    blurred *= heatmap.max() / blurred.max()
    log = np.log(np.maximum(blurred, 1e-10))

    dx = (log[row, column + 1] - log[row, column - 1]) / 2
    dy = (log[row + 1, column] - log[row - 1, column]) / 2
    dxx = (log[row, column + 2] - 2 * log[row, column] + log[row, column - 2]) / 4
    dyy = (log[row + 2, column] - 2 * log[row, column] + log[row - 2, column]) / 4
    dxy = (log[row + 1, column + 1] - log[row - 1, column + 1] - log[row + 1, column - 1] + log[row - 1, column - 1]) / 4
    hessian = np.array([[dxx, dxy], [dxy, dyy]])
    if np.linalg.det(hessian) == 0:
        return float(column), float(row)
    step = -np.linalg.inv(hessian) @ np.array([dx, dy])
    return float(column + step[0]), float(row + step[1])


def blur(heatmap: Map, kernel: int) -> NDArray[np.float64]:
    """The map under a Gaussian of ``kernel`` pixels, zeros beyond the border; its sigma is OpenCV's for that width."""
    half = kernel // 2
    sigma = 0.3 * (half - 1) + 0.8
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    out = np.pad(np.asarray(heatmap, np.float64), half)
    out = np.apply_along_axis(np.convolve, 0, out, weights, "valid")
    return np.apply_along_axis(np.convolve, 1, out, weights, "valid")


def loop(decode: Callable[..., Point], heatmaps: Map) -> NDArray[np.float64]:
    """[n, 2] points of maps [n, H, W], one after the other."""
    return np.array([decode(heatmap) for heatmap in heatmaps])
