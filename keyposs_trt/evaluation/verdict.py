"""What a precision may cost, and whether it does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyposs_trt.engine.precision import FP16, FP32, INT8, PRECISIONS
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyposs_trt.evaluation.drift import Drift

REFERENCE, PASS, FAIL, ERROR = "reference", "pass", "fail", "error"
DEFAULT_INCREASE = {FP32: 0.02, FP16: 0.02, INT8: 0.1}


@dataclass(frozen=True)
class Gates:
    """The limits, by precision; a precision without one is not held to it.

    Attributes:
        increase: of the mean NME over that of FP32, in points (1 point is 1 % of the norm).
        drift: of the 99th percentile of the drift, in crop pixels.
    """

    increase: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_INCREASE))
    drift: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Of one row.

    Attributes:
        kind: ``reference``, ``pass``, ``fail`` or ``error``.
        text: the kind, and why.
    """

    kind: str
    text: str

    @property
    def met(self) -> bool:
        """Whether nothing is wrong."""
        return self.kind in (REFERENCE, PASS)


def limits(words: Sequence[str], option: str) -> dict[str, float]:
    """``0.1`` for every precision, ``int8=0.1`` for one; later words count.

    Raises:
        UsageError: a word is neither.
    """
    found: dict[str, float] = {}
    for word in words:
        name, sign, number = word.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf or (sign and name not in PRECISIONS):
            raise UsageError(f"'{word}' of {option} is no limit; give a number, such as 0.1, or one for a precision, such as int8=0.1.")
        found |= {name: value} if sign else dict.fromkeys(PRECISIONS, value)
    return found


def judge(precision: str, increase: float, drift: Drift | None, gates: Gates) -> Verdict:
    """The verdict on figures that were measured.

    Args:
        precision: of the row.
        increase: of the NME over the reference, a share; NaN where it could not be measured.
        drift: from the reference.
        gates: the limits.
    """
    if drift is None:
        return Verdict(ERROR, "error: no face was found by both this and the reference")
    if not math.isfinite(drift.largest):  # float16 that overflows: such faces are not in the NME, and would pass unseen
        return Verdict(FAIL, "fail: some landmarks are no numbers")
    if math.isnan(increase):
        return Verdict(ERROR, "error: the NME could not be measured on a face that both found")
    reasons = []
    most, points = gates.increase.get(precision), 100 * increase
    if most is not None and points > most:
        reasons.append(f"NME {points:+.{_digits(points, most)}f} > {most:g}")
    most = gates.drift.get(precision)
    if most is not None and drift.p99 > most:
        reasons.append(f"drift p99 {drift.p99:.{_digits(drift.p99, most)}f} px > {most:g}")
    return Verdict(FAIL, f"fail: {', '.join(reasons)}") if reasons else Verdict(PASS, PASS)


def _digits(value: float, limit: float) -> int:
    """As many as it takes to see on which side of the limit a value is, at least two."""
    return next((n for n in range(2, 9) if round(value, n) > limit), 9)
