"""What a figure was measured on: without it, it says nothing."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_BOARD = Path("/proc/device-tree/model")  # of ARM boards, whose cpuinfo seldom has a name


@dataclass(frozen=True)
class Machine:
    """A computer.

    Attributes:
        cpu: name of the processor or the board.
        cores: logical cores of the computer.
        usable: those this process may use.
        load: mean number of busy processes over the last minute, when the measurement began; None where the system does not tell.
        system: operating system and architecture.
        python: version.
    """

    cpu: str
    cores: int
    usable: int
    load: float | None
    system: str
    python: str

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)

    def __str__(self) -> str:
        cores = f"{self.cores} cores" if self.cores != 1 else "1 core"
        usable = "" if self.usable == self.cores else f" ({self.usable} usable)"
        load = "" if self.load is None else f", load {self.load:.1f}"
        return f"{self.cpu}, {cores}{usable}{load}, {self.system}"


def this_machine() -> Machine:
    """The computer this runs on; what cannot be found out is said to be unknown."""
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    try:
        load = round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        load = None
    system = f"{platform.system()} {platform.machine()}"
    return Machine(cpu_name(_text(_CPUINFO), _text(_BOARD)), cores, usable, load, system, platform.python_version())


def cpu_name(cpuinfo: str, board: str) -> str:
    """The name of the processor, or else of the board, or else what Python knows.

    Args:
        cpuinfo: content of /proc/cpuinfo.
        board: content of /proc/device-tree/model.
    """
    match = re.search(r"^model name\s*:\s*(.*\S)", cpuinfo, re.MULTILINE)
    name = match[1] if match else board.strip("\0 \n") or platform.processor() or platform.machine()
    return " ".join(name.split()) or "unknown"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
