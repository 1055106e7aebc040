"""What is said of one part of a machine."""

from __future__ import annotations

from dataclasses import dataclass

OK, MISSING, OPTIONAL = "ok", "missing", "optional"


@dataclass(frozen=True)
class Finding:
    """One part of the machine.

    Attributes:
        part: its name.
        state: ``ok``; ``missing``, which the CPU path needs; ``optional``, which is not there or not as it could be, and need not be.
        found: version and details, or why there is none.
        remedy: what to do; empty where all is well.
    """

    part: str
    state: str
    found: str
    remedy: str = ""
