"""``lls``: the published linear multilateration of KeyPosS (arXiv 2305.16437), in closed form on four pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.decode.gauss_newton import squared_ranges
from keyposs_trt.decode.peaks import find_peaks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.decode.decoded import Decoded
    from keyposs_trt.decode.peaks import Peaks

REACH = 2  # blocks start up to so many pixels before the argmax, and at it
BLOCKS = REACH + 1  # along each axis


def lls(heatmaps: ArrayLike, *, sigma: float = 2.0, border_quirk: bool = True) -> Decoded:
    """Landmarks of heatmaps by the published linear multilateration.

    Nine 2x2 blocks start at the argmax or one or two pixels before it, along x and along y. The one with the largest sum counts, the
    last of equals. Its values are ranges as in ``gn``. The equation of its last pixel, a_r, is subtracted from the other three, which
    leaves 2 (a_r - a_i) . p = d_i^2 - d_r^2 + |a_r|^2 - |a_i|^2, solved by least squares. The amplitude of the map cancels.

    The released code never looks at blocks that touch the last row or column, so that a landmark near the right or the lower border is
    computed from a block further inside. At 4x4 pixels this concerns most of the map.

    The argmax itself is the result where the peak is not positive and where no block is left, as in maps of 1xN pixels.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64.
        sigma: sigma of the training target in heatmap pixels.
        border_quirk: leaves out the last row and column, as published; False looks at all blocks.

    Returns:
        Points in heatmap pixels, scores (the peak in [0, 1]), no covariance.

    Raises:
        UsageError: the maps have no pixels, or sigma makes no sense.
    """
    peaks = find_peaks(heatmaps)
    return peaks.moved(linear_offset(peaks, sigma, border_quirk))


def linear_offset(peaks: Peaks, sigma: float, border_quirk: bool) -> NDArray[np.float64]:
    """[M, 2] the solution relative to each peak; 0 where there is none."""
    window = peaks.window(REACH)
    _, height, width = peaks.maps.shape
    if border_quirk:
        steps = np.arange(-REACH, REACH + 1)
        window[(peaks.y[:, None] + steps == height - 1)] = np.nan
        window.swapaxes(1, 2)[(peaks.x[:, None] + steps == width - 1)] = np.nan
    window = window[:, : BLOCKS + 1, : BLOCKS + 1]
    four = np.stack([window[:, :-1, :-1], window[:, :-1, 1:], window[:, 1:, :-1], window[:, 1:, 1:]], -1).reshape(-1, BLOCKS**2, 4)
    total = np.nan_to_num(four.sum(-1), nan=-np.inf)
    best = total.shape[1] - 1 - total[:, ::-1].argmax(1)  # the last of equals
    every = np.arange(len(window))
    solved = (peaks.value > 0) & (total[every, best] > -np.inf)
    square = squared_ranges(four[every, best], sigma)

    # With q = p - a_r and a_i - a_r = (-1, -1), (0, -1), (-1, 0): X q = Y,
    # X = [[1, 1], [0, 1], [1, 0]] and Y_i = (d_i^2 - d_r^2 - |a_i - a_r|^2) / 2.
    y = (square[:, :3] - square[:, 3:] - np.array([2, 1, 1])) / 2
    q = y @ (np.array([[1, -1, 2], [1, 2, -1]]) / 3).T  # (X^T X)^-1 X^T
    row, column = np.divmod(best, BLOCKS)
    offset = q + np.stack([column, row], -1) - REACH + 1
    return np.where(solved[:, None], offset, 0)
