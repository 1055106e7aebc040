"""Files written whole or not at all."""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import InputError, OutputError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


def temporary_beside(path: Path) -> Path:
    """A fresh hidden name in the folder of ``path``, with the same suffix (writers choose a format by suffix)."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renamed to ``path`` at the end, removed if the body raises.

    Raises:
        OutputError: the folder cannot be made or the file cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"Cannot write '{target}': it is a folder; give a file name.")
    temporary = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as e:
        raise OutputError(f"Cannot write '{target}': {e.strerror or e}; choose a folder you may write to, with room left.") from e
    finally:
        with suppress(OSError):  # what went wrong above is the error to tell
            temporary.unlink()


def read_bytes(path: str | os.PathLike[str], what: str) -> bytes:
    """The bytes of a file; ``what`` names it in messages ("image", "model").

    Raises:
        InputError: the file is missing, a folder, empty or not readable.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no {what} '{path}'; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"'{path}' is a folder, not a {what}; give a file.") from None
    except OSError as e:
        raise InputError(f"Cannot read {what} '{path}': {e.strerror or e}; check its permissions.") from e
    if not data:
        raise InputError(f"The {what} '{path}' is empty; copy or download it again.")
    return data
