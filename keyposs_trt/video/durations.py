"""How long something took, over months, in memory that does not grow: histograms whose buckets grow with the duration."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHORTEST, LONGEST = 1e-6, 100.0  # seconds; what is outside falls into the first or the last bucket
GROWTH = 1.03  # each bucket is 3 % longer than the one before: a percentile is within 1.5 % of the true one
MINUTE = 60.0

_SCALE = 1 / math.log(GROWTH)
_SHIFT = -math.log(SHORTEST) * _SCALE
_BUCKETS = math.ceil(math.log(LONGEST / SHORTEST) * _SCALE) + 1


def _no_counts() -> array[int]:
    return array("Q", bytes(8 * _BUCKETS))


@dataclass(slots=True)
class Tally:
    """Durations, counted in buckets.

    Attributes:
        counts: durations by bucket.
        count: number of durations.
        seconds: their sum.
        largest: the longest one, in seconds.
    """

    counts: array[int] = field(default_factory=_no_counts)
    count: int = 0
    seconds: float = 0.0
    largest: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one; what is negative or no number counts as 0."""
        if not 0 <= seconds < math.inf:
            seconds = 0.0
        bucket = 0 if seconds <= SHORTEST else _BUCKETS - 1 if seconds >= LONGEST else int(math.log(seconds) * _SCALE + _SHIFT)
        self.counts[bucket] += 1
        self.count += 1
        self.seconds += seconds
        if seconds > self.largest:
            self.largest = seconds

    def __add__(self, other: Tally) -> Tally:
        counts = (_numbers(self) + _numbers(other)).tobytes()
        return Tally(array("Q", counts), self.count + other.count, self.seconds + other.seconds, max(self.largest, other.largest))

    def percentile(self, share: float) -> float | None:
        """Seconds that this share of the durations, 0 to 1, did not exceed, ``LONGEST`` at most; None where there are none."""
        if not self.count:
            return None
        bucket = int(np.searchsorted(np.cumsum(_numbers(self)), max(1, math.ceil(share * self.count))))
        return min(SHORTEST * GROWTH ** (bucket + 0.5), LONGEST, self.largest)

    def to_json(self) -> dict[str, Any]:
        """Count, mean, percentiles and the longest, in milliseconds; null where there are none."""
        values = {"mean": self.seconds / self.count if self.count else None, "max": self.largest if self.count else None}
        values |= {f"p{share}": self.percentile(share / 100) for share in (50, 90, 99)}
        order = ("mean", "p50", "p90", "p99", "max")
        return {"count": self.count} | {f"{key}_ms": None if (v := values[key]) is None else round(1e3 * v, 4) for key in order}


def _numbers(tally: Tally) -> NDArray[np.uint64]:
    """[buckets] uint64, of the same memory."""
    return np.frombuffer(tally.counts, np.uint64)


class Durations:
    """Durations of one kind: all of them, and those of the last one to two minutes. Not thread-safe.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self._older, self._previous, self._current = Tally(), Tally(), Tally()
        self._next = now + MINUTE

    def add(self, seconds: float, now: float) -> None:
        """Counts one that ended ``now``."""
        if now >= self._next:
            self._rotate(now)
        self._current.add(seconds)

    def tallies(self, now: float) -> tuple[Tally, Tally]:
        """Copies of what was counted in the last two minutes, of which the second goes on, and of everything."""
        if now >= self._next:
            self._rotate(now)
        window = self._previous + self._current
        return window, self._older + window

    def _rotate(self, now: float) -> None:
        retired = [self._previous, self._current] if now >= self._next + MINUTE else [self._previous]
        for tally in retired:
            if tally.count:
                self._older += tally
        self._previous = self._current if len(retired) == 1 else Tally()
        self._current = Tally()
        self._next = now + MINUTE
