"""Rendered views: what ``keyposs-trt train`` renders of portraits, a ``.npz`` file a portrait.

Each file has ``images`` (uint8: JPEG files joined), ``ends`` [n] (where each of them ends) and ``points`` [n, 68, 2] in view pixels,
counted from 0; nothing is subtracted. The first view is the portrait itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.datasets.checks import DAMAGED_RECORD, WRONG_COUNT
from keyposs_trt.datasets.face import Face, Problem
from keyposs_trt.datasets.format import Format, holds_arrays, read_arrays, to_float32
from keyposs_trt.datasets.sizes import size_of_bytes
from keyposs_trt.errors import DataError, InputError
from keyposs_trt.images import decode_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from keyposs_trt.datasets.format import Request

SPLITS = ("portraits", "rendered")

_ARRAYS = ("images", "ends", "points")
_OPTIONS = "options.json"  # beside the files: what they were rendered with
_REMEDY = "render it again"


@dataclass(frozen=True)
class ViewImage:
    """View ``number`` (from 0) of a file of views."""

    path: Path
    number: int

    @property
    def name(self) -> str:
        """File name and number of the view, counted from 1."""
        return f"{self.path.name}#{self.number + 1}"

    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the JPEG header where Pillow is installed; DataError where there is no picture."""
        try:
            return size_of_bytes(self._bytes(), self.name)
        except InputError as e:
            raise DataError(str(e)) from e

    def read(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 BGR; DataError where there is no picture."""
        try:
            return decode_image(self._bytes(), self.name)
        except InputError as e:
            raise DataError(str(e)) from e

    def _bytes(self) -> bytes:
        images, ends = _pictures(self.path)
        if self.number >= len(ends):
            raise DataError(f"'{self.path}' has {len(ends)} views, no view {self.number + 1}; {_REMEDY}.")
        start = int(ends[self.number - 1]) if self.number else 0
        data = images[start : int(ends[self.number])].tobytes()
        if not data:
            raise DataError(f"View {self.number + 1} of '{self.path}' is empty; {_REMEDY}.")
        return data


def _pictures(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """JPEG files joined, and where each of them ends. The last few files are kept, as views of one file are mostly read together.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        found = path.stat()
    except OSError as e:
        raise DataError(f"Cannot read '{path}': {e.strerror or e}; check the path.") from e
    return _read_pictures(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _read_pictures(path: Path, _changed: int, _size: int) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    images, ends = read_arrays(path, _ARRAYS[:2])
    if images.dtype != np.uint8 or images.ndim != 1 or ends.dtype.kind not in "iu" or ends.ndim != 1 or not len(ends):
        raise DataError(f"'{path}' does not hold pictures as bytes and where they end; {_REMEDY}.")
    if ends[0] < 0 or (ends[1:] < ends[:-1]).any() or ends[-1] != len(images):
        raise DataError(f"The pictures in '{path}' have {len(images)} bytes, but end at {ends.max()}; {_REMEDY}.")
    return images, ends


def _files(path: Path) -> list[Path]:
    """The files of views; hidden ones are still being written."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.glob("*.npz") if not file.name.startswith("."))


def _fits(path: Path) -> bool:
    if path.is_dir():
        return (path / _OPTIONS).is_file() and bool(_files(path))
    return holds_arrays(path, _ARRAYS)


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    path, split = request.path, request.split
    files = _files(path)
    if not files:
        raise DataError(f"There is no .npz file of rendered views in '{path}'; check the path.")
    return "300w", (record for file in files for record in _faces(file, split))


def _faces(file: Path, split: str | None) -> Iterator[Face | Problem]:
    try:
        ends = _pictures(file)[1]
        (points,) = read_arrays(file, _ARRAYS[2:])
    except DataError as e:
        yield Problem(str(file), DAMAGED_RECORD, str(e).rstrip("."))
        return
    if points.ndim != 3 or points.shape[2] != 2 or points.dtype.kind not in "fiu":
        yield Problem(str(file), DAMAGED_RECORD, f"its points are {points.dtype} {points.shape}, not numbers [n, 68, 2]")
        return
    if len(points) != len(ends):
        yield Problem(str(file), WRONG_COUNT, f"points of {len(points)} views, but {len(ends)} pictures")
        return
    for number, view in enumerate(to_float32(points)):
        part = SPLITS[min(number, 1)]
        if split in (None, part):
            yield Face(image=ViewImage(file, number), points=view, where=f"{file}, view {number + 1}", subsets=(part,))


FORMAT = Format(
    name="views",
    title="Rendered views",
    looks_for=f"'{_OPTIONS}' beside .npz files (rendered views)",
    splits=SPLITS,
    fits=_fits,
    read=_read,
)
