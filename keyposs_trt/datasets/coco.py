"""COCO's JSON layout, on which two formats build: ``images`` and ``annotations``, joined by ``image_id``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.datasets.checks import DAMAGED_RECORD, NOT_A_NUMBER, WRONG_COUNT
from keyposs_trt.datasets.face import Face, Problem
from keyposs_trt.datasets.format import first_existing, read_json, to_float32
from keyposs_trt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_VISIBLE = 2


@dataclass(frozen=True)
class CocoFile:
    """A file in COCO's layout.

    Attributes:
        path: the file.
        images: image id -> file name.
        annotations: as they stand in the file.
    """

    path: Path
    images: dict[Any, str]
    annotations: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path, what: str) -> CocoFile:
        """Reads a file; ``what`` says in messages what it should be. DataError where it is missing or something else."""
        tree = read_json(path, what)
        try:
            images = {image["id"]: str(image["file_name"]) for image in tree["images"]}
            annotations = list(tree["annotations"])
        except (KeyError, TypeError) as e:
            raise DataError(f"'{path}' is not {what} ({type(e).__name__}: {e}); check the format.") from e
        return cls(path, images, annotations)

    def where(self, number: int) -> str:
        """What to call annotation ``number`` (from 0) in messages; records count from 1."""
        return f"{self.path}, record {number + 1}"

    def tells_hidden(self, key: str) -> bool:
        """Whether flags of 2 (visible) occur at all: many files write 1 for every labelled point."""
        return any(_VISIBLE in a[key][2::3] for a in self.annotations if isinstance(a, dict) and isinstance(a.get(key), list))

    def face(self, number: int, keys: tuple[str, str], folders: Sequence[Path], hidden: bool, subsets: tuple[str, ...]) -> Face | Problem:
        """One annotation as a face.

        Args:
            number: index of the annotation.
            keys: the keys of the points [x, y, flag] * L and of the box x, y, width, height; the box may be missing.
            folders: where images may lie.
            hidden: a flag of 1 means a hidden point.
            subsets: of the face.
        """
        where, annotation = self.where(number), self.annotations[number]
        if not isinstance(annotation, dict):
            return Problem(where, DAMAGED_RECORD, "the annotation is not an object")
        name = _lookup(self.images, annotation.get("image_id"))
        if name is None:
            return Problem(where, DAMAGED_RECORD, f"there is no image with the id {annotation.get('image_id')!r}")
        values, box = numbers(annotation.get(keys[0])), numbers(annotation.get(keys[1]))
        if values is None:
            return Problem(where, NOT_A_NUMBER, f"'{keys[0]}' is not a list of numbers")
        if len(values) % 3:
            return Problem(where, WRONG_COUNT, f"{len(values)} numbers in '{keys[0]}', not 3 a point")
        flags = values[2::3]
        if not np.isfinite(flags).all():
            return Problem(where, NOT_A_NUMBER, f"a flag in '{keys[0]}' is not a finite number")
        return Face(
            image=first_existing(name, folders),
            points=to_float32(np.stack([values[0::3], values[1::3]], -1)),
            where=where,
            visibility=flags >= _VISIBLE if hidden else None,
            labelled=None if (flags > 0).all() else flags > 0,
            box=None if box is None or len(box) != 4 else to_float32(np.concatenate([box[:2], box[:2] + box[2:]])),
            subsets=subsets,
        )


def _lookup(images: dict[Any, str], key: object) -> str | None:
    return images.get(key) if isinstance(key, int | str) else None


def numbers(values: object) -> NDArray[np.float64] | None:
    """[N] float64, or None where it is no list of numbers."""
    if not isinstance(values, list) or not all(isinstance(v, int | float) for v in values):
        return None
    try:
        return np.array(values, np.float64)
    except OverflowError:  # JSON's whole numbers have no largest
        return None
