"""COFW: ``COFW_train_color.mat`` and ``COFW_test_color.mat``, MATLAB 7.3 files (HDF5) that hold images and annotations.

``phis`` has 29 x, 29 y and 29 occlusion flags a face, ``bboxes`` x, y, width, height; both are 1-based: 1 is subtracted from x and y.
MATLAB's arrays appear transposed in HDF5: ``phisT`` is [87, N], a picture [3, W, H] or, where it is grey, [W, H].
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from keyposs_trt.datasets.face import Face
from keyposs_trt.datasets.format import Format, to_float32
from keyposs_trt.errors import BackendError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from keyposs_trt.datasets.face import Problem
    from keyposs_trt.datasets.format import Request

POINTS = 29
# Split -> images, points, boxes in the file.
_KEYS = {"train": ("IsTr", "phisTr", "bboxesTr"), "test": ("IsT", "phisT", "bboxesT")}
_FILES = {"train": ("COFW_train_color.mat", "COFW_train.mat"), "test": ("COFW_test_color.mat", "COFW_test.mat")}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_REMEDY = "copy or download it again"


@dataclass(frozen=True)
class CofwImage:
    """Picture ``number`` (from 0) of a COFW file."""

    path: Path
    key: str
    number: int

    @property
    def name(self) -> str:
        """File name and number of the picture, counted from 1."""
        return f"{self.path.name}#{self.number + 1}"

    def size(self) -> tuple[int, int]:
        """Width and height in pixels, without reading the picture; DataError where there is none."""
        with open_hdf5(self.path) as file:
            width, height = self._dataset(file).shape[-2:]
            return int(width), int(height)

    def read(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 BGR; DataError where there is no picture."""
        with open_hdf5(self.path) as file:
            stored = np.asarray(self._dataset(file)[()])
        if stored.ndim == 2:
            stored = np.broadcast_to(stored, (3, *stored.shape))
        return cast("NDArray[np.uint8]", np.ascontiguousarray(stored.transpose()[..., ::-1]))

    def _dataset(self, file: Any) -> Any:
        import h5py

        try:
            found = file[file[self.key][0, self.number]]
        except (KeyError, ValueError, TypeError, IndexError) as e:
            raise DataError(f"'{self.path}' has no picture {self.number + 1} ({e}); {_REMEDY}.") from e
        shape = found.shape if isinstance(found, h5py.Dataset) else ()
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 3) or 0 in shape or found.dtype != np.uint8:
            raise DataError(f"Picture {self.number + 1} of '{self.path}' is no 8-bit grey or RGB picture; {_REMEDY}.")
        return found


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The HDF5 file, open for reading.

    Raises:
        BackendError: h5py is not installed.
        DataError: the file is missing, damaged or of another kind.
    """
    try:
        import h5py
    except ImportError as e:
        raise BackendError("COFW's files are HDF5, and h5py is not installed: pip install h5py.") from e
    try:
        with h5py.File(path, "r") as file:
            yield file
    # What h5py raises for damage depends on where it lies.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as e:
        raise DataError(f"'{path}' cannot be read as HDF5 ({' '.join(str(e).split())}); {_REMEDY}.") from e


def _files(path: Path) -> dict[str, Path]:
    """Split -> file; for a file alone, the split is found from what it holds."""
    if path.is_file():
        return {"": path}
    return {split: found for split, names in _FILES.items() if (found := next((path / n for n in names if (path / n).is_file()), None))}


def _fits(path: Path) -> bool:
    if path.is_dir():
        return bool(_files(path))
    with path.open("rb") as file:
        # MATLAB puts 512 bytes of its own before the HDF5 file.
        head = file.read(520)
    return path.suffix == ".mat" and _HDF5 in (head[:8], head[512:])


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    path, split = request.path, request.split
    files = [(name, file) for name, file in _files(path).items() if name == "" or split in (None, name)]
    parts = [(file, found) for name, file in files for found in _splits_in(file) if split in (None, found) and name in ("", found)]
    if not parts:
        raise DataError(f"'{path}' holds no COFW faces{f' of the split {split!r}' if split else ''}; check the path and the split.")
    return "cofw", (face for file, found in parts for face in _faces(file, found))


def _splits_in(path: Path) -> list[str]:
    with open_hdf5(path) as file:
        found = [split for split, keys in _KEYS.items() if all(key in file for key in keys)]
    if not found:
        raise DataError(f"'{path}' has none of COFW's arrays {', '.join(_KEYS['train'] + _KEYS['test'])}; {_REMEDY}.")
    return found


def _faces(path: Path, split: str) -> Iterator[Face]:
    images, phis, boxes = _KEYS[split]
    with open_hdf5(path) as file:
        number = file[images].shape[-1]
        shapes, wanted = (file[phis].shape, file[boxes].shape), ((3 * POINTS, number), (4, number))
        if shapes != wanted:
            raise DataError(
                f"'{path}' has {number} pictures, but points {shapes[0]} and boxes {shapes[1]} "
                f"instead of {wanted[0]} and {wanted[1]}; {_REMEDY}."
            )
        values, rects = (np.asarray(file[key][()], np.float64) for key in (phis, boxes))
    for i, (face, (x, y, width, height)) in enumerate(zip(values.T, rects.T, strict=True)):
        xs, ys, hidden = face.reshape(3, POINTS)
        yield Face(
            image=CofwImage(path, images, i),
            points=to_float32(np.stack([xs, ys], -1) - 1),
            where=f"{path}, record {i + 1}",
            visibility=hidden == 0,
            box=to_float32([x - 1, y - 1, x - 1 + width, y - 1 + height]),
            subsets=(split,),
        )


FORMAT = Format(
    name="cofw",
    title="COFW",
    looks_for="'COFW_train_color.mat' or 'COFW_test_color.mat' (COFW)",
    splits=tuple(_KEYS),
    fits=_fits,
    read=_read,
)
