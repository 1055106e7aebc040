"""Files of one name, told apart by a number: ``clip-0000.mp4``, ``clip-0001.mp4`` ..."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def numbered(path: Path, number: int) -> Path:
    """The name with a number of at least four digits before its suffix."""
    return path.with_name(f"{path.stem}-{number:04d}{path.suffix}")


def next_number(path: Path) -> int:
    """The number after the highest one there is, 0 where there is none: what an earlier run left stays.

    Raises:
        OSError: the folder cannot be read.
    """
    pattern = re.compile(rf"{re.escape(path.stem)}-([0-9]{{4,9}}){re.escape(path.suffix)}")
    found = (pattern.fullmatch(other.name) for other in path.parent.iterdir())
    return max((int(match[1]) + 1 for match in found if match), default=0)
