"""``gn``: the published multilateration of KeyPosS (arXiv 2305.16437), by Gauss-Newton on the largest values of a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keyposs_trt.decode.multilateration import HUGE, check_parameters
from keyposs_trt.decode.peaks import find_peaks
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.decode.decoded import Decoded
    from keyposs_trt.decode.peaks import Peaks

ITERATIONS = 20
SINGULAR = 1e-9  # determinant over the product of the diagonal of J^T J: anchors on a line
LEAST = 1e-9  # a smaller value, or one that is not positive, is a range of 6.4 sigma
MAX_ANCHORS = 1024
ANCHORS = {16: 30, 8: 15, 0: 10}  # by the shorter side of the map, from this size on


class Ranges(NamedTuple):
    """The K anchors of each of M maps: [M, K] place relative to the peak and squared range in heatmap pixels, weight 0 or 1."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    square: NDArray[np.float64]
    weight: NDArray[np.float64]


def gn(heatmaps: ArrayLike, *, sigma: float = 2.0, anchors: int | None = None) -> Decoded:
    """Landmarks of heatmaps by the published Gauss-Newton multilateration.

    Each of the largest values h of the whole map gives a range d = sqrt(-2 sigma^2 ln clip(h, 1e-9, 1)) from its pixel a.
    From the argmax on, at most 20 Gauss-Newton steps lower sum (|a - p|^2 - d^2)^2, all anchors of equal weight. The first step that raises
    the sum is the last one, and it is kept, as in the released code. A peak below 1 lengthens every range: the amplitude of a map
    is taken for distance, which is what ``wls`` was made to avoid.

    The steps also end where they are not defined: at once, on the argmax, in maps of 1xN pixels. The argmax is the result as well where
    the peak is not positive and where the steps diverge beyond all numbers.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64.
        sigma: sigma of the training target in heatmap pixels.
        anchors: values used per map, 3 to 1024; by default the published 30 at 64, 32 and 16 pixels, 15 at 8 and 10 at 4. Maps of another
            size take the number of the next smaller published one, by their shorter side, and never more than there are pixels.

    Returns:
        Points in heatmap pixels, scores (the peak in [0, 1]), no covariance.

    Raises:
        UsageError: the maps have no pixels, or a parameter makes no sense.
    """
    peaks = find_peaks(heatmaps)
    with np.errstate(over="ignore", invalid="ignore"):  # steps that diverge end as the argmax
        p = _descend(measure_ranges(peaks, sigma, anchors))
    return peaks.moved(np.where((peaks.value > 0)[:, None], p, 0))


def squared_ranges(h: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """d^2 = -2 sigma^2 ln clip(h, 1e-9, 1), heatmap pixels squared; NaN stays NaN.

    Raises:
        UsageError: sigma makes no sense.
    """
    sigma = check_parameters(sigma=sigma)["sigma"]
    return -2 * sigma**2 * np.log(h.clip(LEAST, 1))


def measure_ranges(peaks: Peaks, sigma: float, anchors: int | None = None) -> Ranges:
    """Ranges from the largest values of each map; of equal values the first in row-major order.

    Raises:
        UsageError: a parameter makes no sense.
    """
    count, height, width = peaks.maps.shape
    if anchors is None:
        anchors = next(k for side, k in ANCHORS.items() if min(height, width) >= side)
    if anchors not in range(3, MAX_ANCHORS + 1):
        raise UsageError(f"anchors must be a whole number in 3..{MAX_ANCHORS}, not {anchors}.")
    anchors = min(int(anchors), height * width)
    maps = peaks.maps.reshape(count, height * width)
    index = _largest(maps, anchors)
    h = np.take_along_axis(maps, index, 1).astype(np.float64)
    y, x = np.divmod(index, width)
    weight = (h > np.float32(-HUGE)).astype(np.float64)
    return Ranges((x - peaks.x[:, None]).astype(np.float64), (y - peaks.y[:, None]).astype(np.float64), squared_ranges(h, sigma), weight)


def _largest(maps: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """[M, k] indices, in rising order, of the k largest values of maps [M, N]; of equal ones the first."""
    if k == maps.shape[1]:
        return np.broadcast_to(np.arange(k), (len(maps), k))
    least = np.partition(maps, -k, axis=1)[:, -k, None]
    chosen = maps >= least
    tied = np.flatnonzero(chosen.sum(1) > k)
    if len(tied):
        above, equal = maps[tied] > least[tied], maps[tied] == least[tied]
        chosen[tied] = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdims=True)))
    return np.nonzero(chosen)[1].reshape(-1, k)


def _descend(ranges: Ranges) -> NDArray[np.float64]:
    """[M, 2] the result of the Gauss-Newton steps relative to the peak, where they start."""
    x, y, square, weight = ranges
    p = np.zeros((len(x), 2))
    active, last = np.arange(len(x)), np.full(len(x), np.inf)
    for _ in range(ITERATIONS):
        jx, jy = p[active, 0, None] - x, p[active, 1, None] - y  # half the Jacobian
        residual = weight * (jx**2 + jy**2 - square)
        cost = (residual**2).sum(1)
        xx, xy, yy = (np.einsum("mk,mk->m", weight * u, v) for u, v in ((jx, jx), (jx, jy), (jy, jy)))
        tx, ty = np.einsum("mk,mk->m", jx, residual), np.einsum("mk,mk->m", jy, residual)
        det = 2 * (xx * yy - xy * xy)
        falls = (det > SINGULAR * xx * yy) & (cost < last)
        step = np.stack([yy * tx - xy * ty, xx * ty - xy * tx], -1)[falls] / det[falls, None]
        active, last = active[falls], cost[falls]
        x, y, square, weight = (a[falls] for a in (x, y, square, weight))
        p[active] -= step
        if not len(active):
            break
    return p
