"""One format of annotation files, and what loaders share."""

from __future__ import annotations

import json
import stat
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import DataError
from keyposs_trt.files import file_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.datasets.face import Face, Problem


_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, OSError, EOFError),
    *(ValueError, TypeError, RuntimeError, SyntaxError, MemoryError),
)


@dataclass(frozen=True)
class Request:
    """What of a data set is wanted: its path, the split (None for all), and the scheme (None for its own)."""

    path: Path
    split: str | None = None
    scheme: str | None = None


@dataclass(frozen=True)
class Format:
    """How one data set is published.

    Attributes:
        name: the name on the command line.
        title: the name to print.
        looks_for: what must lie at the path, in words.
        splits: the names that ``split`` takes; empty where they depend on the files.
        fits: whether a path holds this format; looks at names and beginnings alone.
        read: what is wanted -> the scheme of the points, and what is found. The records are read lazily;
            DataError where no record can be read at all.
    """

    name: str
    title: str
    looks_for: str
    splits: tuple[str, ...]
    fits: Callable[[Path], bool]
    read: Callable[[Request], tuple[str, Iterator[Face | Problem]]]


def read_text(path: Path) -> str:
    """A text file; bytes that are not UTF-8 are kept as surrogates, as they are in file names.

    Raises:
        DataError: it is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise DataError(f"There is no annotation file '{path}'; check the path.") from None
    except OSError as e:
        raise DataError(f"Cannot read the annotation file '{path}': {e.strerror or e}; check its permissions.") from e


def read_json(path: Path, what: str) -> Any:
    """A JSON file; ``what`` says in messages what it should be.

    Raises:
        DataError: it is missing or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as e:
        raise DataError(f"'{path}' is not {what} ({type(e).__name__}: {e}); copy or download it again.") from e


def read_arrays(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Arrays of an ``.npz`` file by their names, in that order; Python objects in it are refused.

    Raises:
        DataError: the file is missing or damaged, or lacks one of them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in names if f"{name}.npy" not in archive.namelist()]
            if missing:
                raise DataError(f"'{path}' lacks the array '{missing[0]}'; make or copy it again.")
            return [_array(archive, name) for name in names]
    except FileNotFoundError:
        raise DataError(f"There is no file '{path}'; check the path.") from None
    # What is raised for damage depends on where it lies; an array's false shape needs more memory than there is.
    except _DAMAGE as e:
        detail = " ".join(str(e).split())[:120] or type(e).__name__
        raise DataError(f"'{path}' cannot be read as .npz ({detail}); make or copy it again.") from e


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # to the end, where the checksum is compared
        return array


def holds_arrays(path: Path, names: Sequence[str]) -> bool:
    """Whether a file is an ``.npz`` with arrays of these names; their content is not looked at."""
    if path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in names} <= set(archive.namelist())
    except (zipfile.BadZipFile, ValueError):
        return False


def starts_with(path: Path, most: int = 65536) -> str:
    """The beginning of a file as text; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return ""


def to_float32(values: ArrayLike) -> NDArray[np.float32]:
    """As float32; what is too large becomes infinite, which the checks find."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)


def numbers_of(tokens: Iterable[str]) -> NDArray[np.float32] | None:
    """[N] float32, or None where a token is not a number; "nan" is one."""
    try:
        return to_float32([float(token) for token in tokens])
    except ValueError:
        return None


def is_regular(path: Path) -> bool:
    """Whether a file is there; a name that no file can have has none."""
    try:
        return stat.S_ISREG(file_mode(path))
    except ValueError:  # a null byte
        return False


def first_existing(name: str, folders: Iterable[Path]) -> Path:
    """The file of that name in the first folder that has it; in the first folder where none has."""
    paths = [folder / name for folder in folders]
    return next((path for path in paths if is_regular(path)), paths[0])
