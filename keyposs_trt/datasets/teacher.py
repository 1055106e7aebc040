"""Portraits with the points of a teacher: a folder of images and ``mediapipe478.npz``, or a folder of such folders.

The file has ``names`` [n] and ``points`` [n, 478, 3], MediaPipe's face mesh in image pixels counted from 0; nothing is subtracted. The 68
points are the mesh's own, not annotations: where they differ from the 68-point scheme, so does every figure measured with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.datasets.checks import DAMAGED_RECORD
from keyposs_trt.datasets.face import Face, Problem
from keyposs_trt.datasets.format import Format, read_arrays, to_float32
from keyposs_trt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyposs_trt.datasets.format import Request

TEACHER_FILE = "mediapipe478.npz"
VERTICES = 478
# Vertices of the 478-point face mesh that stand for the 68 points.
TEACHER_68 = np.array(
    [127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356,
     70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 6, 195, 4, 98, 97, 2, 326, 327,
     33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
     61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87]
)  # fmt: skip

SPLITS = ("unseen", "seen")
_UNSEEN = "7"  # the last character of the names that are never trained on


def _files(path: Path) -> list[Path]:
    """The teacher's files at a path that is one, its folder, or a folder of such folders."""
    if path.is_file():
        return [path]
    if (path / TEACHER_FILE).is_file():
        return [path / TEACHER_FILE]
    return sorted(folder / TEACHER_FILE for folder in path.iterdir() if (folder / TEACHER_FILE).is_file())


def _fits(path: Path) -> bool:
    return bool(_files(path)) if path.is_dir() else path.name == TEACHER_FILE


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    path, split = request.path, request.split
    files = _files(path)
    if not files:
        raise DataError(f"There is no '{TEACHER_FILE}' in '{path}' or in a folder in it; check the path.")
    return "300w", (record for file in files for record in _faces(file, split))


def _faces(file: Path, split: str | None) -> Iterator[Face | Problem]:
    try:
        names, points = read_arrays(file, ("names", "points"))
    except DataError as e:
        yield Problem(str(file), DAMAGED_RECORD, str(e).rstrip("."))
        return
    if names.dtype.kind != "U" or points.dtype.kind != "f" or points.shape != (*names.shape, VERTICES, 3) or names.ndim != 1:
        shapes = f"points {points.shape} and names {names.shape}, not [n, {VERTICES}, 3] and [n]"
        yield Problem(str(file), DAMAGED_RECORD, f"{shapes}, numbers and texts")
        return
    for number, (name, mesh) in enumerate(zip(names.tolist(), points, strict=True), 1):
        part = SPLITS[0] if Path(name).stem.endswith(_UNSEEN) else SPLITS[1]
        if split in (None, part):
            subsets = (part, file.absolute().parent.name)
            yield Face(image=file.parent / name, points=to_float32(mesh[TEACHER_68, :2]), where=f"{file}, record {number}", subsets=subsets)


FORMAT = Format(
    name="teacher",
    title="Portraits with a teacher's points",
    looks_for=f"'{TEACHER_FILE}' (portraits with a teacher's points)",
    splits=SPLITS,
    fits=_fits,
    read=_read,
)
