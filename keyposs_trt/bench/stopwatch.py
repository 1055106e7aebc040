"""Seconds by the name of what they were spent on, and the percentiles of many measurements."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Clock = Callable[[], float]


class Stopwatch:
    """Laps of one pass. It runs from the moment it is made.

    Args:
        clock: gives seconds; another one than the computer's for tests.

    Attributes:
        seconds: time by the name of the lap; laps of one name are added up.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._last = clock()

    def lap(self, name: str) -> None:
        """Ends a lap: all time since the last one belongs to ``name``."""
        now = self._clock()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def skip(self) -> None:
        """Begins a lap anew: the time since the last one is nobody's."""
        self._last = self._clock()


def once(call: Callable[[], Any], clock: Clock = time.perf_counter) -> tuple[float, Any]:
    """Seconds a call takes, and its result."""
    start = clock()
    result = call()
    return clock() - start, result


@dataclass(frozen=True)
class Percentiles:
    """How long something took, in milliseconds.

    Attributes:
        p50: the median.
        p90: nine of ten took no longer.
        p99: ninety-nine of a hundred took no longer; of fewer than a hundred measurements this is nearly the longest.
        mean: the mean.
        least: the shortest.
        count: number of measurements.
    """

    p50: float
    p90: float
    p99: float
    mean: float
    least: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles:
        """Of measurements in seconds; between two measurements a percentile is interpolated linearly.

        Raises:
            UsageError: there are none.
        """
        if not len(seconds):
            raise UsageError("Percentiles need at least one measurement; measure first.")
        ms = 1e3 * np.asarray(seconds, np.float64)
        p50, p90, p99 = np.percentile(ms, [50, 90, 99]).tolist()
        return cls(p50, p90, p99, float(ms.mean()), float(ms.min()), len(ms))

    def rate(self, things: int = 1) -> float:
        """Things a second at the median, where one measurement handles ``things``."""
        return 1e3 * things / self.p50 if self.p50 > 0 else float("inf")

    def to_json(self) -> dict[str, float]:
        """The fields, milliseconds rounded to a tenth of a microsecond."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
