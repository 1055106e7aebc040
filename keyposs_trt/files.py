"""Files written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def file_mode(path: str | os.PathLike[str]) -> int:
    """What is at ``path``, symbolic links followed, for ``stat.S_ISREG`` and its like.

    0, which is no kind of file, where nothing can be found: also for a name too long for any file system, over which the
    questions of ``Path`` stumble.
    """
    try:
        return Path(path).stat().st_mode
    except OSError:
        return 0


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether a FIFO, device or socket is there: it can be written to, but must never be replaced."""
    mode = file_mode(path)
    return bool(mode) and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether the name can be given to OpenCV, which crashes on names that are not UTF-8."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def replaced_by(path: str | os.PathLike[str]) -> Path:
    """The file that a result called ``path`` replaces: the one a symbolic link points to, so that the link stays.

    Raises:
        OutputError: a folder, FIFO or device is there.
    """
    if stat.S_ISDIR(file_mode(path)):
        raise OutputError(f"Cannot write '{path}': it is a folder; give a file name.")
    if is_special(path):
        raise OutputError(f"Cannot write '{path}': it is a pipe or device, no file; give another name.")
    return Path(os.path.realpath(path))


def temporary_beside(path: Path) -> Path:
    """A fresh hidden name in the folder of ``path``, with the same suffix (writers choose a format by suffix)."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renamed to ``path`` at the end, removed if the body raises.

    Where ``path`` is a symbolic link, the file it points to is written.

    Raises:
        OutputError: the folder cannot be made or the file cannot be written, or a folder, FIFO or device is there.
    """
    target = replaced_by(path)
    temporary = temporary_beside(target.parent / Path(path).name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as e:
        raise OutputError(f"Cannot write '{path}': {e.strerror or e}; choose a folder you may write to, with room left.") from e
    finally:
        with suppress(OSError):  # what went wrong above is the error to tell
            temporary.unlink()


def require_writable(path: str | os.PathLike[str]) -> None:
    """Tries, and leaves nothing but the folder: better no long work than one whose result is lost.

    Raises:
        OutputError: there can be no file ``path``.
    """
    with suppress(_DoneTryingError), atomic_path(path) as temporary:
        temporary.touch()
        raise _DoneTryingError


class _DoneTryingError(Exception):
    """Makes ``atomic_path`` take back what was tried."""


def read_bytes(path: str | os.PathLike[str], what: str, most: int = -1) -> bytes:
    """The bytes of a file, or the first ``most`` of them; ``what`` names it in messages ("image", "model").

    Raises:
        InputError: the file is missing, a folder, empty or not readable.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(most)
    except FileNotFoundError:
        raise InputError(f"There is no {what} '{path}'; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"'{path}' is a folder, not a {what}; give a file.") from None
    except OSError as e:
        raise InputError(f"Cannot read {what} '{path}': {e.strerror or e}; check its permissions.") from e
    if not data:
        raise InputError(f"The {what} '{path}' is empty; copy or download it again.")
    return data
