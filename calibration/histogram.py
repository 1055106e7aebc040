"""How large the values of a tensor are: a histogram of magnitudes that does not depend on the order in which they came."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 4096
_LOWEST_EXPONENT = -60  # of a bin's width: below, values are zero for a float16 network


@dataclass(eq=False)
class Histogram:
    """Magnitudes of a tensor's values.

    A bin's width is a power of two, the smallest that lets all values fit. When a larger value comes, bins merge exactly, so that the same
    values in any order, in any batches and on any number of threads give the same histogram.

    Attributes:
        exponent: bin i holds magnitudes from i to i + 1 times 2 to this power.
        counts: [4096] int64; exact zeros are not among them.
        zeros: number of exact zeros.
        largest: the largest magnitude.
        lowest: the smallest value, with its sign.
    """

    exponent: int = _LOWEST_EXPONENT
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    zeros: int = 0
    largest: float = 0.0
    lowest: float = 0.0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2.0**self.exponent

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum()) + self.zeros

    def add(self, values: NDArray[np.float32], name: str = "the tensor") -> None:
        """Takes in values of any shape.

        Raises:
            DataError: a value is not finite; ``name`` is the tensor in the message.
        """
        flat = np.abs(values).ravel()
        if not flat.size:
            return
        largest = float(flat.max())
        if not math.isfinite(largest):
            raise DataError(f"The network gives values that are no numbers in '{name}'; its weights are broken: export or train it again.")
        self.lowest = min(self.lowest, float(values.min()))
        self.largest = max(self.largest, largest)
        self._make_room(largest)
        # The width is a power of two: the product is exact, and so is the bin.
        bins = (flat * np.float32(2.0**-self.exponent)).astype(np.int64)
        counts = np.bincount(bins, minlength=BINS)
        zeros = int(flat.size - np.count_nonzero(flat))
        counts[0] -= zeros
        self.zeros += zeros
        self.counts += counts

    def _make_room(self, largest: float) -> None:
        """Makes bins so wide that ``largest`` fits, and all that is here moves along."""
        needed = max(math.frexp(largest)[1] - BINS.bit_length() + 1, _LOWEST_EXPONENT) if largest else _LOWEST_EXPONENT
        steps = needed - self.exponent
        if steps <= 0:
            return
        factor = 2 ** min(steps, BINS.bit_length() - 1)
        merged = self.counts.reshape(-1, factor).sum(1)
        self.counts = np.concatenate([merged, np.zeros(BINS - len(merged), np.int64)])
        self.exponent = needed
