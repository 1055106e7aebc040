"""From a histogram of magnitudes to the range that becomes 127: minmax, percentile, mse, entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import UsageError
from keyposs_trt.graph.qdq import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from keyposs_trt.calibration.histogram import Histogram

METHODS = ("minmax", "entropy", "percentile", "mse")
PERCENTILE = 99.99  # of all values, the default
_CANDIDATES = 256  # ranges that mse and entropy try
_SMALLEST = LEVELS + 1  # bins: fewer do not fill the levels


def range_of(histogram: Histogram, method: str, percentile: float = PERCENTILE) -> float:
    """The magnitude that becomes 127.

    Args:
        histogram: of a tensor's values; where all are zero, the range is 0, which ``quantise`` refuses.
        method: ``minmax``: the largest; ``percentile``: exceeded by 100 - ``percentile`` % of the values; ``mse``: least mean squared
            error of rounding and clipping together; ``entropy``: least Kullback-Leibler divergence of the rounded distribution from the
            whole one (S. Migacz, "8-bit inference with TensorRT", GTC 2017).
        percentile: in %.

    Raises:
        UsageError: there is no such method, or the percentile makes no sense.
    """
    check_method(method, percentile)
    if not histogram.largest:
        return 0.0
    if method == "percentile":
        return _percentile(histogram, percentile)
    searches: dict[str, Callable[[Histogram], float]] = {"minmax": lambda h: h.largest, "mse": _mse, "entropy": _entropy}
    return min(searches[method](histogram), histogram.largest)


def check_method(method: str, percentile: float = PERCENTILE) -> None:
    """Raises UsageError where there is no such method, or the percentile makes no sense."""
    if method not in METHODS:
        raise UsageError(f"There is no calibration method '{method}'; choose one of {', '.join(METHODS)}.")
    if not 50 <= percentile <= 100:
        raise UsageError(f"The percentile must be from 50 to 100, not {percentile:g}; 99.99 is usual.")


def _percentile(histogram: Histogram, percentile: float) -> float:
    """The upper edge of the bin that the percentile falls into; the largest value where that is the last one used."""
    wanted = percentile / 100 * histogram.total
    reached = histogram.zeros + np.cumsum(histogram.counts)
    number = int(np.searchsorted(reached, wanted))
    return min((number + 1) * histogram.width, histogram.largest)


def _candidates(histogram: Histogram) -> NDArray[np.int64]:
    """Numbers of bins that ranges to be tried end at, evenly up to the last one used."""
    used = int(np.flatnonzero(histogram.counts)[-1]) + 1
    if used <= _SMALLEST:
        return np.array([used])
    return np.unique(np.linspace(_SMALLEST, used, _CANDIDATES).round().astype(np.int64))


def _mse(histogram: Histogram) -> float:
    middle = (np.arange(len(histogram.counts)) + 0.5) * histogram.width
    used = histogram.counts > 0
    middle, counts = middle[used], histogram.counts[used]
    best, least = histogram.largest, np.inf
    for end in _candidates(histogram):
        limit = float(end) * histogram.width
        step = limit / LEVELS
        rounded = np.minimum(np.rint(middle / step), LEVELS) * step
        error = float((counts * (middle - rounded) ** 2).sum())
        if error < least:
            best, least = limit, error
    return best


def _entropy(histogram: Histogram) -> float:
    """As TensorRT's entropy calibration: what lies beyond a range is heaped on its end; the quantised histogram diverges least from that.

    Exact zeros, which every range represents, take no part.
    """
    counts = histogram.counts.astype(np.float64)
    beyond = counts.sum() - np.cumsum(counts)
    best, least = histogram.largest, np.inf
    for end in _candidates(histogram):
        end = int(end)
        real = counts[:end].copy()
        real[-1] += beyond[end - 1]
        divergence = _divergence(real, _quantised(counts[:end]))
        if divergence < least:
            best, least = end * histogram.width, divergence
    return best


def _quantised(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bins merged into 128 levels, each level's count spread evenly over those of its bins that hold anything."""
    levels = np.minimum(np.arange(len(counts)) * (LEVELS + 1) // len(counts), LEVELS)
    filled = counts > 0
    sums = np.bincount(levels, counts, LEVELS + 1)
    share = np.bincount(levels, filled, LEVELS + 1)
    return np.where(filled, sums[levels] / np.maximum(share[levels], 1), 0.0)


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence of q from p, both scaled to 1; infinite where q has nothing at all."""
    if not q.sum():
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    # The heap on the end may stand where q has nothing: a small share keeps the divergence finite, as it must stay comparable.
    use = p > 0
    return float((p[use] * np.log(p[use] / np.maximum(q[use], 1e-10))).sum())
