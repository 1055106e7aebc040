"""WFLW: lists of 98 points, box, six attributes and image name, one face a line.

Coordinates are 0-based in the files; nothing is subtracted. The lists do not say which points are occluded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyposs_trt.datasets.checks import NOT_A_NUMBER, TRUNCATED, WRONG_COUNT
from keyposs_trt.datasets.face import Face, Problem
from keyposs_trt.datasets.format import Format, first_existing, numbers_of, read_text, starts_with
from keyposs_trt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyposs_trt.datasets.format import Request

ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
SPLITS = ("train", "test")

_COORDINATES = 196
_NUMBERS = _COORDINATES + 4 + len(ATTRIBUTES)
_LIST = "list_98pt_rect_attr_{}.txt"
_FOLDERS = ("", "list_98pt_rect_attr_train_test", "WFLW_annotations", "WFLW_annotations/list_98pt_rect_attr_train_test")


def _lists(path: Path) -> dict[str, Path]:
    """Split -> its list, at a path that is the root of the data set, a folder in it, or a list."""
    if path.is_file():
        split = next((s for s in SPLITS if s in path.stem.split("_")), "")
        return {split: path}
    found = {}
    for split in SPLITS:
        names = (path / folder / _LIST.format(split) for folder in _FOLDERS)
        if (first := next((name for name in names if name.is_file()), None)) is not None:
            found[split] = first
    return found


def _fits(path: Path) -> bool:
    if path.is_dir():
        return bool(_lists(path))
    return path.suffix == ".txt" and len(starts_with(path).partition("\n")[0].split()) > _NUMBERS // 2


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    path, split = request.path, request.split
    lists = {name: file for name, file in _lists(path).items() if split in (None, name)}
    if not lists:
        raise DataError(f"There is no '{_LIST.format(split or 'train')}' in '{path}'; check the path and the split.")
    return "wflw", (record for name, file in lists.items() for record in _faces(file, name))


def _faces(path: Path, split: str) -> Iterator[Face | Problem]:
    # The images stand beside the folder of annotations; those who move lists about keep them nearer.
    folders = [*(folder / "WFLW_images" for folder in reversed(path.absolute().parents[:3])), path.parent]
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield _face(line, f"{path}:{number}", split, folders)


def _face(line: str, where: str, split: str, folders: list[Path]) -> Face | Problem:
    tokens = line.split(maxsplit=_NUMBERS)
    if len(tokens) <= _NUMBERS:
        return Problem(where, TRUNCATED, f"{len(tokens)} of {_NUMBERS + 1} values (98 points, box, 6 flags, image)")
    name = tokens[_NUMBERS].strip()
    if numbers_of(name.split()[:1]) is not None and " " in name:
        return Problem(where, WRONG_COUNT, f"more than {_NUMBERS} numbers before the image's name")
    numbers = numbers_of(tokens[:_NUMBERS])
    if numbers is None:
        bad = next(i for i, token in enumerate(tokens) if numbers_of([token]) is None)
        return Problem(where, NOT_A_NUMBER, f"value {bad + 1} is '{tokens[bad][:20]}', not a number")
    flags = numbers[-len(ATTRIBUTES) :]
    subsets = [attribute for attribute, flag in zip(ATTRIBUTES, flags, strict=True) if flag == 1]
    return Face(
        image=first_existing(name, folders),
        points=numbers[:_COORDINATES].reshape(-1, 2),
        where=where,
        box=numbers[_COORDINATES : _COORDINATES + 4],
        subsets=tuple(filter(None, [split, *subsets])),
    )


FORMAT = Format(
    name="wflw",
    title="WFLW",
    looks_for=f"'{_LIST.format('train')}' or '{_LIST.format('test')}' (WFLW)",
    splits=SPLITS,
    fits=_fits,
    read=_read,
)
