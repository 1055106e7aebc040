"""The machine that is looked at: its files under a root, and the Python that runs; tests put a tree of files in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LONGEST_ANSWER = 2.0  # seconds for a program of the system
_LARGEST = 1 << 24  # bytes of a file that are read: the list of Debian's packages has some megabytes


def ask_program(command: Sequence[str]) -> str:
    """What a program of the system prints; empty where it is missing, fails or takes too long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_ANSWER, errors="replace", check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _groups() -> frozenset[int]:
    return frozenset((*os.getgroups(), os.getegid())) if hasattr(os, "getgroups") else frozenset()


@dataclass(frozen=True)
class Machine:
    """Where to look, and who asks.

    Attributes:
        root: of the file system.
        python: version of this Python, (major, minor).
        path: where this Python looks for packages.
        prefix: folder of this Python's environment.
        user: number of the user; 0 is root.
        groups: numbers of the user's groups.
        programs: where programs are looked for, folders under the root.
        ask: runs a program that only tells, and gives what it printed.
    """

    root: Path = Path("/")
    python: tuple[int, int] = sys.version_info[:2]
    path: Sequence[str] = field(default_factory=lambda: tuple(sys.path))
    prefix: str = sys.prefix
    user: int = field(default_factory=lambda: os.geteuid() if hasattr(os, "geteuid") else 0)
    groups: frozenset[int] = field(default_factory=_groups)
    programs: Sequence[str] = ("usr/bin", "usr/sbin", "usr/local/bin")
    ask: Callable[[Sequence[str]], str] = ask_program

    def text(self, path: str | Path) -> str:
        """A file's text without the zeros of the device tree; empty where it cannot be read."""
        try:
            with (self.root / path).open("rb") as file:
                return file.read(_LARGEST).decode(errors="replace").replace("\0", " ").strip()
        except (OSError, ValueError):
            return ""

    def number(self, path: str | Path) -> int | None:
        """A file's number; None where it cannot be read, or holds none."""
        try:
            return int(self.text(path))
        except ValueError:
            return None

    def glob(self, pattern: str) -> list[Path]:
        """Files that fit, in order; none where the folder cannot be read."""
        try:
            return sorted(self.root.glob(pattern))
        except OSError:
            return []

    def program(self, name: str) -> bool:
        """Whether a program is installed."""
        return any((self.root / folder / name).is_file() for folder in self.programs)
