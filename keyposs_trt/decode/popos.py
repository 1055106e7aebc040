"""``popos``: the search of POPoS (AAAI 2025, arXiv 2410.09583) among candidates around the linear solution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.decode.gauss_newton import measure_ranges
from keyposs_trt.decode.linear import linear_offset
from keyposs_trt.decode.peaks import find_peaks
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.decode.decoded import Decoded
    from keyposs_trt.decode.gauss_newton import Ranges

CANDIDATES = 1024
MAX_CANDIDATES = 16384
MAX_EXTENT = 64.0
EXTENT = 0.5
CHUNK = 2**18  # ranges worked on at a time: 1 MB, which stays in a cache


def popos(
    heatmaps: ArrayLike,
    *,
    sigma: float = 2.0,
    anchors: int | None = None,
    candidates: int = CANDIDATES,
    extent: float = EXTENT,
    border_quirk: bool = True,
) -> Decoded:
    """Landmarks of heatmaps by a search for the candidate that fits the ranges best.

    The solution of ``lls`` is the middle of a square of candidates p. The landmark is the one with the least sum of | |a - p| - d | over
    the anchors of ``gn``, the first of equals in row-major order. It is exact to half a step of the grid, 1/64 of a heatmap pixel along
    x and y with the defaults. Like ``gn`` it takes the amplitude of a map for distance, which a small ``extent`` limits.
    The default of one pixel a side is this project's: the linear solution of a clean map is much nearer.

    Where ``lls`` has no solution, the grid lies around the argmax. The argmax itself is the result where the peak is not positive.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64.
        sigma: sigma of the training target in heatmap pixels.
        anchors: as in ``gn``.
        candidates: a square number, 4 to 16384; published are 256 to 4096.
        extent: half the side of the square that the candidates cover evenly, in heatmap pixels.
        border_quirk: as in ``lls``.

    Returns:
        Points in heatmap pixels, scores (the peak in [0, 1]), no covariance.

    Raises:
        UsageError: the maps have no pixels, or a parameter makes no sense.
    """
    side = math.isqrt(int(candidates)) if candidates in range(4, MAX_CANDIDATES + 1) else 0
    if not side or side**2 != candidates:
        raise UsageError(f"candidates must be a square number from 4 to {MAX_CANDIDATES}, such as {CANDIDATES}, not {candidates}.")
    if not 0 < extent <= MAX_EXTENT:
        raise UsageError(f"extent must be positive and at most {MAX_EXTENT:g} heatmap pixels, not {extent}.")
    peaks = find_peaks(heatmaps)
    ranges = measure_ranges(peaks, sigma, anchors)
    start = linear_offset(peaks, sigma, border_quirk)
    grid = extent * ((2 * np.arange(side) + 1) / side - 1)
    best = start + _search(ranges, start, grid)
    return peaks.moved(np.where((peaks.value > 0)[:, None], best, 0))


def _search(ranges: Ranges, start: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """[M, 2] the best candidate relative to ``start`` [M, 2], of those at ``grid`` [side] along x and y."""
    x, y = (v - start[:, i, None] for i, v in enumerate((ranges.x, ranges.y)))
    dx, dy = (((v[:, None] - grid[:, None]) ** 2).astype(np.float32) for v in (x, y))  # [M, side, K]
    distance, weight = np.sqrt(ranges.square).astype(np.float32), ranges.weight.astype(np.float32)
    best = np.empty(len(x), np.int64)
    step = max(1, CHUNK // (len(grid) ** 2 * x.shape[1]))
    for i in range(0, len(x), step):
        part = slice(i, i + step)
        misfit = np.sqrt(dy[part, :, None] + dx[part, None])
        misfit -= distance[part, None, None]
        np.abs(misfit, out=misfit)
        best[part] = np.einsum("mijk,mk->mij", misfit, weight[part]).reshape(len(misfit), -1).argmin(1)
    row, column = np.divmod(best, len(grid))
    return np.stack([grid[column], grid[row]], -1)
