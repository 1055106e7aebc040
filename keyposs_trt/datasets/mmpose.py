"""The JSON layout that mmpose and KeyPosS use for every data set: COCO's, with ``keypoints`` [x, y, flag] * L.

Flags: 0 not labelled, 1 hidden, 2 visible; files in which no 2 occurs write 1 for every labelled point and say nothing about hidden ones.
Coordinates are taken as they stand; nothing is subtracted. ``bbox`` is x, y, width, height; mmpose's conversions of 300W, WFLW and AFLW
write the box around the points there, 1.2 times as large.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from keyposs_trt.datasets.coco import CocoFile
from keyposs_trt.datasets.format import Format, starts_with
from keyposs_trt.errors import DataError
from keyposs_trt.schemes import load_scheme, scheme_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyposs_trt.datasets.face import Face, Problem
    from keyposs_trt.datasets.format import Request

WHAT = "an annotation file in mmpose's JSON layout"

_KEYS = ("keypoints", "bbox")


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in chain(path.glob("*.json"), path.glob("annotations/*.json")) if _is_coco(file))


def _is_coco(path: Path) -> bool:
    beginning = starts_with(path)
    return beginning.lstrip()[:1] == "{" and any(f'"{key}"' in beginning for key in ("images", "annotations", "categories"))


def _fits(path: Path) -> bool:
    return bool(_files(path)) if path.is_dir() else path.suffix == ".json" and _is_coco(path)


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    file = CocoFile.read(_one_file(request.path, request.split), WHAT)
    return scheme_of(file, request.scheme), faces_of(file)


def _one_file(path: Path, split: str | None) -> Path:
    """The file to read. A folder of several is no data set: they hold splits of others, and the same faces more than once."""
    files = _files(path)
    chosen = [file for file in files if split in (None, file.stem)] or [file for file in files if file.stem.endswith(f"_{split}")]
    chosen = chosen or [file for file in files if file.stem.startswith(f"{split}_")]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(file.stem for file in files)
    if not chosen and split is None:
        raise DataError(f"'{path}' holds no JSON file in mmpose's layout; check the path.")
    if not chosen:
        raise DataError(f"'{path}' has no annotation file of the split '{split}', but {names or 'none at all'}.")
    raise DataError(f"'{path}' has {len(chosen)} annotation files ({names}); name one as the split, or give its path.")


def scheme_of(file: CocoFile, wanted: str | None) -> str:
    """The scheme that the number of points of most annotations belongs to; the wanted one where it has that number.

    Raises:
        DataError: there is no scheme with such a number, or the file has no points.
    """
    lists = [a["keypoints"] for a in file.annotations if isinstance(a, dict) and isinstance(a.get("keypoints"), list)]
    counts = Counter(len(values) // 3 for values in lists).most_common()
    known = {len(load_scheme(name)): name for name in scheme_names()}
    if wanted is not None and counts and len(load_scheme(wanted)) == counts[0][0]:
        return load_scheme(wanted).name
    for count, _ in counts:
        if count in known:
            return known[count]
    found = ", ".join(str(count) for count, _ in counts) or "no"
    schemes = ", ".join(f"{count} ({name})" for count, name in sorted(known.items()))
    raise DataError(f"The faces of '{file.path}' have {found} points, and no scheme has as many; known are {schemes}.")


def image_folders(path: Path) -> list[Path]:
    """Where the images of an annotation file may lie: beside it, or in mmpose's folder ``images`` beside its ``annotations``."""
    return [path.parent, path.parent / "images", path.parent.parent / "images", path.parent.parent]


def faces_of(file: CocoFile) -> Iterator[Face | Problem]:
    """The annotations of a file, unchecked, one by one."""
    hidden = file.tells_hidden(_KEYS[0])
    folders = image_folders(file.path)
    for number in range(len(file.annotations)):
        yield file.face(number, _KEYS, folders, hidden, (file.path.stem,))


FORMAT = Format(
    name="mmpose",
    title="mmpose",
    looks_for="a JSON file with 'images' and 'annotations' (mmpose's layout)",
    splits=(),
    fits=_fits,
    read=_read,
)
