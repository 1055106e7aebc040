"""LaPa: ``{train,val,test}/images`` and ``landmarks``, a text file an image: the count, then a point a line.

Coordinates are 0-based in the files; nothing is subtracted. Neither boxes nor occlusion are annotated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.datasets.checks import DAMAGED_RECORD, MISSING_ANNOTATION, NOT_A_NUMBER, TRUNCATED, WRONG_COUNT
from keyposs_trt.datasets.face import Face, Problem
from keyposs_trt.datasets.format import Format, numbers_of, read_text
from keyposs_trt.errors import DataError
from keyposs_trt.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from keyposs_trt.datasets.format import Request

SPLITS = ("train", "val", "test")


def _folders(path: Path) -> dict[str, Path]:
    """Split -> its folder, at the root of the data set or at the folder of one split."""
    if (path / "landmarks").is_dir() and (path / "images").is_dir():
        return {path.absolute().name: path}
    return {split: path / split for split in SPLITS if (path / split / "landmarks").is_dir()}


def _fits(path: Path) -> bool:
    return path.is_dir() and bool(_folders(path))


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    path, split = request.path, request.split
    folders = {name: folder for name, folder in _folders(path).items() if split in (None, name)}
    if not folders:
        raise DataError(f"There is no folder '{split or 'train'}/landmarks' in '{path}'; check the path and the split.")
    return "lapa", (record for name, folder in folders.items() for record in _faces(folder, name))


def _faces(folder: Path, split: str) -> Iterator[Face | Problem]:
    images = {file.stem: file for file in (folder / "images").iterdir() if file.suffix.lower() in IMAGE_SUFFIXES}
    files = {file.stem: file for file in (folder / "landmarks").glob("*.txt")}
    for stem in sorted(files.keys() | images.keys()):
        if stem not in files:
            yield Problem(str(images[stem]), MISSING_ANNOTATION, f"there is no '{folder / 'landmarks' / stem}.txt'")
            continue
        points = _points(files[stem])
        if isinstance(points, Problem):
            yield points
        else:
            image = images.get(stem, folder / "images" / f"{stem}.jpg")
            yield Face(image=image, points=points, where=str(files[stem]), subsets=(split,))


def _points(path: Path) -> NDArray[np.float32] | Problem:
    where = str(path)
    try:
        lines = [(i, line.split()) for i, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    except DataError as e:
        return Problem(where, DAMAGED_RECORD, str(e).rstrip("."))
    if not lines or len(lines[0][1]) != 1 or not lines[0][1][0].isdecimal():
        return Problem(f"{where}:1", DAMAGED_RECORD, "the first line is not the number of points")
    stated = int(lines[0][1][0])
    rows = []
    for number, tokens in lines[1:]:
        values = numbers_of(tokens)
        if values is None:
            return Problem(f"{where}:{number}", NOT_A_NUMBER, f"'{' '.join(tokens)[:40]}' is not two numbers")
        if len(values) != 2:
            return Problem(f"{where}:{number}", TRUNCATED, f"{len(values)} number{'s' * (len(values) != 1)} where a point has 2")
        rows.append(values)
    if len(rows) != stated:
        kind = TRUNCATED if len(rows) < stated else WRONG_COUNT
        return Problem(where, kind, f"{len(rows)} points where the first line says {stated}")
    return np.array(rows, np.float32).reshape(-1, 2)


FORMAT = Format(
    name="lapa",
    title="LaPa",
    looks_for="'train/landmarks' or another split with 'images' beside it (LaPa)",
    splits=SPLITS,
    fits=_fits,
    read=_read,
)
