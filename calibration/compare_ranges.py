"""Two calibrations of one network side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyposs_trt.graph.calibration_file import Calibration


@dataclass(frozen=True)
class Difference:
    """What differs.

    Attributes:
        same_network: whether both are of one network.
        facts: key -> the values of both, for method, percentile, source, samples, set_sha256 and excluded where they differ.
        ratios: by tensor in both, the second range over the first, the largest change first.
        only_first, only_second: tensors that one of them alone has.
    """

    same_network: bool
    facts: dict[str, tuple[object, object]]
    ratios: dict[str, float]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether both give the same INT8 model."""
        return (
            self.same_network
            and not (self.only_first or self.only_second or "excluded" in self.facts)
            and set(self.ratios.values()) <= {1.0}
        )


def difference(first: Calibration, second: Calibration) -> Difference:
    """Compares two calibrations."""
    keys = ("method", "percentile", "source", "samples", "set_sha256", "excluded")
    facts = {k: (getattr(first, k), getattr(second, k)) for k in keys if getattr(first, k) != getattr(second, k)}
    both = [t for t in first.ranges if t in second.ranges]
    ratios = {t: second.ranges[t] / first.ranges[t] for t in both}
    ordered = sorted(both, key=lambda t: (-max(ratios[t], 1 / ratios[t]), t))
    return Difference(
        first.network_sha256 == second.network_sha256,
        facts,
        {t: ratios[t] for t in ordered},
        tuple(t for t in first.ranges if t not in second.ranges),
        tuple(t for t in second.ranges if t not in first.ranges),
    )


def in_words(found: Difference, most: int = 20) -> list[str]:
    """The difference as lines of text: facts, then the ``most`` largest changes of range."""
    lines = [] if found.same_network else ["the networks differ: these ranges are not of one model"]
    for key, (a, b) in found.facts.items():
        words = (_short(a), _short(b))
        lines.append(f"{key:12s} {words[0]}  ->  {words[1]}")
    changed = {t: r for t, r in found.ratios.items() if r != 1}
    lines.append(f"{len(changed)} of {len(found.ratios)} ranges differ")
    lines += [f"{r:8.3f} x  {t}" for t, r in list(changed.items())[:most]]
    if len(changed) > most:
        lines.append(f"... and {len(changed) - most} more; --json FILE lists all")
    for title, names in (("only in the first", found.only_first), ("only in the second", found.only_second)):
        lines += [f"{title}: {name}" for name in names]
    return lines


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} layers"
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
