"""300W: a ``.pts`` file with 68 points beside each image.

Coordinates are 1-based in the files: 1 is subtracted. Neither boxes nor occlusion are annotated.
The folders say which split an image belongs to:

==========  =====================================================  =====
split       folders                                                faces
==========  =====================================================  =====
train       afw, helen/trainset, lfpw/trainset                      3148
common      helen/testset, lfpw/testset                              554
challenge   ibug                                                     135
full        common and challenge                                     689
private     300W, 01_Indoor, 02_Outdoor, Test (called test as well)  600
==========  =====================================================  =====
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.datasets.checks import DAMAGED_RECORD, NOT_A_NUMBER, TRUNCATED, WRONG_COUNT
from keyposs_trt.datasets.face import Face, Problem
from keyposs_trt.datasets.format import Format, numbers_of, read_text
from keyposs_trt.errors import DataError
from keyposs_trt.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyposs_trt.datasets.format import Request

SPLITS = ("train", "common", "challenge", "full", "private", "test")

_PRIVATE = {"300w": "", "test": "", "01_indoor": "indoor", "02_outdoor": "outdoor", "indoor": "indoor", "outdoor": "outdoor"}
_OWN_FOLDERS = ("afw", "helen", "lfpw", "ibug", "trainset", "testset", "01_indoor", "02_outdoor")


def subsets_of(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The splits and subsets of a file, from the folders it lies in, the outermost first."""
    names = [name.lower() for name in folders]
    for source in ("helen", "lfpw"):
        if source in names:
            return ("train", source) if "trainset" in names else ("common", "full", source) if "testset" in names else (source,)
    if "afw" in names:
        return ("train", "afw")
    if "ibug" in names:
        return ("challenge", "full", "ibug")
    private = [_PRIVATE[name] for name in names if name in _PRIVATE]
    return tuple(dict.fromkeys(filter(None, ["private", *private]))) if private else ()


def _files(path: Path) -> Iterator[Path]:
    return (file for file in path.rglob("*") if file.suffix.lower() == ".pts")


def _fits(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() == ".pts"
    # No deeper than 300W's own folders: a large folder of something else is told apart quickly.
    return any(next(path.glob("*/" * depth + "*.[pP][tT][sS]"), None) for depth in range(4))


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    path, split = request.path, request.split
    files = [path] if path.is_file() else sorted(_files(path))
    root = path.absolute() if path.is_dir() else path.absolute().parent
    # Where a folder of the data set itself was given, its own name and the one above tell the split; "300w" and "test" are too common.
    above = () if _has_split_folders(root) else tuple(name for name in root.parts[-2:] if name.lower() in _OWN_FOLDERS)
    placed = [(file, subsets_of((*above, *_inside(file.absolute(), root)))) for file in files]
    wanted = {"test": "private"}.get(split or "", split)
    chosen = [(file, subsets) for file, subsets in placed if wanted is None or wanted in subsets]
    if not chosen:
        known = ", ".join(sorted({name for _, subsets in placed for name in subsets})) or "no known folder"
        raise DataError(f"'{path}' has no .pts file of the split '{split}', but {known}; 300W's folders are afw, helen, lfpw, ibug, 300W.")
    return "300w", (_face(file, subsets) for file, subsets in chosen)


def _has_split_folders(root: Path) -> bool:
    return any((root / name).is_dir() for name in ("afw", "helen", "lfpw", "ibug", "300W", "01_Indoor", "02_Outdoor"))


def _inside(file: Path, root: Path) -> tuple[str, ...]:
    return file.relative_to(root).parts[:-1]


def _face(path: Path, subsets: tuple[str, ...]) -> Face | Problem:
    try:
        text = read_text(path)
    except DataError as e:
        return Problem(str(path), DAMAGED_RECORD, str(e).rstrip("."))
    points = parse_pts(text, str(path))
    return points if isinstance(points, Problem) else Face(image=_image(path), points=points - 1, where=str(path), subsets=subsets)


def _image(path: Path) -> Path:
    """The image of the same name; ``.jpg`` where there is none."""
    siblings = (path.with_suffix(suffix) for known in (".jpg", ".png", *sorted(IMAGE_SUFFIXES)) for suffix in (known, known.upper()))
    return next((file for file in siblings if file.is_file()), path.with_suffix(".jpg"))


def parse_pts(text: str, where: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]] | Problem:
    """The points [L, 2] of a ``.pts`` file as they stand there, or what is wrong with it."""
    lines = text.split("\n")
    opening = next((i for i, line in enumerate(lines) if line.strip() == "{"), None)
    stated = re.search(r"^\s*n_points:\s*(\d+)\s*$", "\n".join(lines[:opening]), re.MULTILINE)
    if opening is None or stated is None:
        return Problem(where, DAMAGED_RECORD, "no .pts header: 'n_points: 68' and '{' on lines of their own")
    rows = []
    for number, line in enumerate(lines[opening + 1 :], opening + 2):
        if line.strip() == "}":
            break
        if not line.strip():
            continue
        values = numbers_of(line.split())
        if values is None:
            return Problem(f"{where}:{number}", NOT_A_NUMBER, f"'{line.strip()[:40]}' is not two numbers")
        if len(values) != 2:
            return Problem(f"{where}:{number}", TRUNCATED, f"{len(values)} number{'s' * (len(values) != 1)} where a point has 2")
        rows.append(values)
    else:
        return Problem(where, TRUNCATED, f"no closing '}}' after {len(rows)} of {stated[1]} points")
    if len(rows) != int(stated[1]):
        return Problem(where, WRONG_COUNT, f"{len(rows)} points where the header says {stated[1]}")
    return np.array(rows, np.float32).reshape(-1, 2)


FORMAT = Format(
    name="300w",
    title="300W",
    looks_for=".pts files beside images (300W)",
    splits=SPLITS,
    fits=_fits,
    read=_read,
)
