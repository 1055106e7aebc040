"""AFLW with 19 points: ``AFLWinfo_release.mat`` (MATLAB 5) beside AFLW's images.

``data`` has 19 x then 19 y, ``bbox`` xmin, xmax, ymin, ymax, ``mask_new`` 0 for a hidden point, ``nameList`` the image names, and ``ra``
the order of the faces, 1-based: the first 20000 of it train, the last 4386 test. All points are annotated, also hidden ones.
Coordinates are taken as they stand; nothing is subtracted.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.datasets.face import Face
from keyposs_trt.datasets.format import Format, first_existing, to_float32
from keyposs_trt.errors import BackendError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from keyposs_trt.datasets.face import Problem
    from keyposs_trt.datasets.format import Request

POINTS = 19
TRAIN_FACES = 20_000
SPLITS = ("train", "test", "frontal")

_FILE = "AFLWinfo_release.mat"
_KEYS = ("bbox", "data", "mask_new", "nameList", "ra")
_IMAGE_FOLDERS = ("", "data/flickr", "flickr", "images", "aflw/data/flickr")
_MATLAB5 = b"MATLAB 5.0"


def _fits(path: Path) -> bool:
    if path.is_dir():
        return (path / _FILE).is_file()
    with path.open("rb") as file:
        return path.suffix == ".mat" and file.read(len(_MATLAB5)) == _MATLAB5


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    file = request.path / _FILE if request.path.is_dir() else request.path
    return "aflw", _faces(file, _load(file), request.split)


def _load(path: Path) -> dict[str, Any]:
    """The arrays of the file, of the shapes that belong together."""
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as e:
        raise BackendError("AFLW's file is MATLAB's, and scipy is not installed: pip install scipy.") from e
    if not path.is_file():
        raise DataError(f"There is no '{path}'; check the path.")
    try:
        tree = loadmat(str(path), variable_names=_KEYS)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError, KeyError, IndexError, OverflowError, zlib.error) as e:
        raise DataError(f"'{path}' cannot be read as a MATLAB 5 file ({' '.join(str(e).split())}); copy or download it again.") from e
    missing = [key for key in _KEYS if key not in tree]
    if missing:
        raise DataError(f"'{path}' has no {', '.join(missing)}; AFLW's file has {', '.join(_KEYS)}.")
    number = len(tree["data"])
    shapes = {"data": (number, 2 * POINTS), "bbox": (number, 4), "mask_new": (number, POINTS)}
    wrong = [f"{key} {tree[key].shape} instead of {shape}" for key, shape in shapes.items() if tree[key].shape != shape]
    wrong += [f"{key} is not made of numbers" for key in (*shapes, "ra") if tree[key].dtype.kind not in "iufb"]
    if not wrong and not np.array_equal(np.sort(tree["ra"].ravel()), np.arange(1, number + 1)):
        wrong.append(f"ra is not an order of 1 to {number}")
    if tree["nameList"].size != number:
        wrong.append(f"nameList has {tree['nameList'].size} names for {number} faces")
    if wrong:
        raise DataError(f"'{path}' is damaged: {'; '.join(wrong)}; copy or download it again.")
    return {key: tree[key] for key in _KEYS}


def _faces(path: Path, arrays: dict[str, Any], split: str | None) -> Iterator[Face]:
    folders = [path.parent / folder for folder in _IMAGE_FOLDERS]
    order = arrays["ra"].ravel().astype(np.intp) - 1
    names = arrays["nameList"].ravel()
    for place, row in enumerate(order.tolist()):
        visible = arrays["mask_new"][row] != 0
        part = "train" if place < TRAIN_FACES else "test"
        subsets = (part, "frontal") if part == "test" and visible.all() else (part,)
        if split is not None and split not in subsets:
            continue
        left, right, top, bottom = arrays["bbox"][row].tolist()
        yield Face(
            image=first_existing(_text(names[row]), folders),
            points=_points(arrays["data"][row]),
            where=f"{path}, record {row + 1}",
            visibility=visible,
            box=to_float32([left, top, right, bottom]),
            subsets=subsets,
        )


def _points(row: NDArray[np.floating]) -> NDArray[np.float32]:
    return to_float32(np.stack([row[:POINTS], row[POINTS:]], -1))


def _text(cell: Any) -> str:
    """The text in a MATLAB cell, which scipy gives as an array of one text."""
    while isinstance(cell, np.ndarray):
        cell = cell.ravel()[0] if cell.size else ""
    return str(cell)


FORMAT = Format(
    name="aflw",
    title="AFLW",
    looks_for=f"'{_FILE}' (AFLW)",
    splits=SPLITS,
    fits=_fits,
    read=_read,
)
