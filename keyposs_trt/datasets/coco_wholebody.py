"""COCO-WholeBody-Face: ``coco_wholebody_{train,val}_v1.0.json`` beside COCO's images ``train2017`` and ``val2017``.

``face_kpts`` has [x, y, flag] * 68, ``face_box`` x, y, width, height; annotations whose ``face_valid`` is false have no face and are left
out. Coordinates are taken as they stand; nothing is subtracted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyposs_trt.datasets.coco import CocoFile
from keyposs_trt.datasets.format import Format, starts_with
from keyposs_trt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyposs_trt.datasets.face import Face, Problem
    from keyposs_trt.datasets.format import Request

SPLITS = ("train", "val")

_FILE = "coco_wholebody_{}_v1.0.json"
_KEYS = ("face_kpts", "face_box")


def _files(path: Path) -> dict[str, Path]:
    """Split -> file, at COCO's root, its folder of annotations, or one file."""
    if path.is_file():
        return {next((split for split in SPLITS if f"_{split}_" in path.name), ""): path}
    places = [(split, path / folder / _FILE.format(split)) for split in SPLITS for folder in ("annotations", "")]
    return {split: file for split, file in places if file.is_file()}


def _fits(path: Path) -> bool:
    if path.is_dir():
        return bool(_files(path))
    return path.suffix == ".json" and (path.name.startswith("coco_wholebody_") or '"face_kpts"' in starts_with(path))


def _read(request: Request) -> tuple[str, Iterator[Face | Problem]]:
    path, split = request.path, request.split
    files = {name: file for name, file in _files(path).items() if split in (None, name)}
    if not files:
        raise DataError(f"There is no '{_FILE.format(split or 'train')}' in '{path}'; check the path and the split.")
    return "300w", (record for name, file in files.items() for record in _faces(file, name))


def _faces(path: Path, split: str) -> Iterator[Face | Problem]:
    file = CocoFile.read(path, "a COCO-WholeBody annotation file")
    roots = [path.parent, path.parent / "..", path.parent / "images", path.parent / "../images"]
    folders = [root / name for name in (f"{split}2017", "") for root in roots]
    hidden = file.tells_hidden(_KEYS[0])
    for number, annotation in enumerate(file.annotations):
        if not isinstance(annotation, dict) or annotation.get("face_valid"):
            yield file.face(number, _KEYS, folders, hidden, (split,) if split else ())


FORMAT = Format(
    name="coco-wholebody-face",
    title="COCO-WholeBody-Face",
    looks_for=f"'{_FILE.format('train')}' or '{_FILE.format('val')}' (COCO-WholeBody-Face)",
    splits=SPLITS,
    fits=_fits,
    read=_read,
)
