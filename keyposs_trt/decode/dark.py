"""``dark`` and ``dark_border``: a Newton step on the logarithm of the blurred map (DARK, arXiv 1910.06278)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.decode.peaks import find_peaks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.decode.decoded import Decoded
    from keyposs_trt.decode.peaks import Peaks

HALF = 5  # of the blur: 11 pixels
BLUR = 2.0  # sigma of the blur, OpenCV's for 11 pixels: 0.3 (5 - 1) + 0.8
LEAST = 1e-10  # logarithms are of this at least
MARGIN = 2  # the derivatives reach so far
REACH = 1.0  # dark_border: largest step along x and y, heatmap pixels


def dark(heatmaps: ArrayLike) -> Decoded:
    """The published DARK decoder as it is usually implemented (mmpose).

    The map is blurred by an 11x11 Gaussian of sigma 2 with zeros beyond the border, scaled to its former maximum, clipped at 1e-10
    and its logarithm expanded to second order at the argmax; the landmark is where the gradient vanishes. The second derivatives are taken
    over two pixels, the gradient over one. Peaks within 2 pixels of a border are not refined: at 8x8 and 4x4 that is part of its
    error. The step has no bound.

    The argmax itself is the result there, where the peak is not positive and where the step is not defined. What is no measurement
    counts as 0.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64.

    Returns:
        Points in heatmap pixels, scores (the peak in [0, 1]), no covariance.

    Raises:
        UsageError: the maps have no pixels.
    """
    peaks = find_peaks(heatmaps)
    return peaks.moved(_published(peaks))


def dark_border(heatmaps: ArrayLike) -> Decoded:
    """DARK that also refines peaks at the border.

    Seven pixels off every border this is ``dark``. Nearer, zeros beyond the border would bend the logarithm of the blurred map, and
    a normalised blur (divided by its weight on the map) bends it more. So the blur is as wide as fits, along x and y apart: 11 pixels
    of sigma 2 down to 3 of 1.2, or none. The expansion is made at the pixel nearest to the peak that has 2 pixels between itself and
    every border (1 in maps of 3 or 4 pixels), all derivatives over one pixel. The step leads at most 1 pixel away from the peak along x
    and y, and none is made where the logarithm is not concave.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64. Fewer than 3 pixels a side give the argmax.

    Returns:
        Points in heatmap pixels, scores (the peak in [0, 1]), no covariance.

    Raises:
        UsageError: the maps have no pixels.
    """
    peaks = find_peaks(heatmaps)
    _, height, width = peaks.maps.shape
    if min(height, width) < 3:
        return peaks.moved(np.zeros((len(peaks.x), 2)))
    (x, half_x), (y, half_y) = _centre(peaks.x, width), _centre(peaks.y, height)
    window = np.nan_to_num(peaks.window(HALF + MARGIN, x, y))
    blurred = _blurs()[half_y] @ window @ _blurs()[half_x].swapaxes(1, 2)
    base = np.where(peaks.value > 0, peaks.value, 1)[:, None, None]
    offset, concave = _newton(np.log(np.maximum(blurred / base, LEAST)), 1)
    offset = np.clip(offset + np.stack([x - peaks.x, y - peaks.y], -1), -REACH, REACH)
    near = np.where((concave & (peaks.value > 0))[:, None], offset, 0)
    return peaks.moved(np.where(peaks.inside(HALF + MARGIN)[:, None], _published(peaks), near))


def _published(peaks: Peaks) -> NDArray[np.float64]:
    """[M, 2] the step of ``dark``; not finite where there is none."""
    matrix = _blurs()[HALF]
    blurred = matrix @ np.nan_to_num(peaks.window(HALF + MARGIN)) @ matrix.T
    refined = peaks.inside(MARGIN) & (peaks.value > 0)
    low = refined & (blurred < LEAST).any((1, 2))
    blurred[low] *= _scale(peaks, low)[:, None, None]  # elsewhere a constant of the logarithm, as the scale is never below 1
    offset, _ = _newton(np.log(np.maximum(blurred, LEAST)), MARGIN)
    return np.where(refined[:, None], offset, 0)


@lru_cache(1)
def _blurs() -> NDArray[np.float64]:
    """[6, 5, 15] the blurs of 1, 3, ..., 11 pixels as matrices, from a window of 15 pixels to the 5 in its middle.

    The narrower ones, of ``dark_border`` alone, have a sigma of 1 + half / 5: the same sigma would bend the logarithm, OpenCV's for their
    widths would let more noise through.
    """
    place = np.arange(-HALF - MARGIN, HALF + MARGIN + 1)
    distance = place - np.arange(-MARGIN, MARGIN + 1)[:, None]
    half = np.arange(HALF + 1)[:, None, None]
    sigma = 1 + (BLUR - 1) * half / HALF
    weight = np.exp(-(distance**2) / (2 * sigma**2)) * (np.abs(distance) <= half)
    return weight / weight[:, MARGIN].sum(-1)[:, None, None]


def _centre(peak: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Along one axis and for each peak: where to expand, and half the width of the blur."""
    margin = min(MARGIN, (size - 1) // 2)
    centre = peak.clip(margin, size - 1 - margin)
    return centre, np.minimum(np.minimum(centre, size - 1 - centre) - 1, HALF)


def _newton(log: NDArray[np.float64], step: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """[M, 2] the way to where the gradient of log [M, 5, 5] vanishes, not finite where there is none, and [M] whether log is concave.

    Second derivatives along x and y over ``step`` pixels, 1 or 2.
    """
    c = MARGIN
    gx = (log[:, c, c + 1] - log[:, c, c - 1]) / 2
    gy = (log[:, c + 1, c] - log[:, c - 1, c]) / 2
    middle = 2 * log[:, c, c]
    xx = (log[:, c, c + step] - middle + log[:, c, c - step]) / step**2
    yy = (log[:, c + step, c] - middle + log[:, c - step, c]) / step**2
    xy = (log[:, c + 1, c + 1] - log[:, c - 1, c + 1] - log[:, c + 1, c - 1] + log[:, c - 1, c - 1]) / 4
    det = xx * yy - xy**2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        way = np.stack([xy * gy - yy * gx, xy * gx - xx * gy], -1) / det[:, None]
    return way, (xx < 0) & (det > 0)


def _scale(peaks: Peaks, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Maximum of the map over that of the blurred map, of the chosen ones; NaN where the latter is not positive."""
    maps = np.where(peaks.usable[chosen], peaks.maps[chosen], 0).astype(np.float64)
    _, height, width = maps.shape
    highest = (_whole_blur(height) @ maps @ _whole_blur(width)).max((1, 2), initial=-np.inf)
    positive = highest > 0
    return np.where(positive, peaks.value[chosen] / np.where(positive, highest, 1), np.nan)


def _whole_blur(size: int) -> NDArray[np.float64]:
    """[size, size] the blur of 11 pixels along one axis of a whole map, zeros beyond the border."""
    weight = _blurs()[HALF, MARGIN]
    steps = np.arange(size) - np.arange(size)[:, None]
    return weight[steps.clip(-HALF - 1, HALF + 1) + HALF + MARGIN]  # zero one pixel beyond the blur
