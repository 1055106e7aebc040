"""Where a verb's text goes: a file, or standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os


def write_text(text: str, target: str | os.PathLike[str]) -> None:
    """Writes a file whole or not at all; ``-`` is standard output.

    Raises:
        OutputError: the file cannot be written.
    """
    from keyposs_trt.files import atomic_path

    if target == "-":
        sys.stdout.write(text)
        return
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
