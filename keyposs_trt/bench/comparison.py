"""Two models that took turns: the ratio of their medians, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """The time of one over that of another.

    Attributes:
        value: median over median; below 1 the first is faster.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``faster`` or ``slower`` where the interval leaves no doubt, else ``no difference shown``."""
        return "faster" if self.high < 1 else "slower" if self.low > 1 else "no difference shown"

    def to_json(self) -> dict[str, float | str]:
        """The fields and the verdict."""
        return {"ratio": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4), "verdict": self.verdict}


def ratio_of(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """The ratio of the medians of paired measurements, with a bootstrap interval.

    Pairs are drawn anew, not single measurements: both of a pair were taken in one moment of the machine, so what slowed both down
    does not widen the interval. The interval holds the middle 95 % of the ratios of 1000 drawings with a fixed seed (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        first: [P] seconds, all positive.
        second: [P] seconds of the same passes.

    Raises:
        UsageError: there are none, or they are not pairs.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(a) or len(a) != len(b):
        raise UsageError(f"A ratio needs pairs, and there are {len(a)} and {len(b)} measurements; measure both in every pass.")
    rng = np.random.default_rng(0)
    ratios = np.empty(RESAMPLES)
    for i in range(RESAMPLES):  # one by one: all draws of a long run at once would take much memory
        drawn = rng.integers(0, len(a), len(a))
        ratios[i] = np.median(a[drawn]) / np.median(b[drawn])
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Ratio(float(np.median(a) / np.median(b)), low, high)
