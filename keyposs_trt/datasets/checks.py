"""What makes an annotation unusable, and the check of every face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.datasets.face import Dataset, Face, Problem
from keyposs_trt.datasets.format import is_regular
from keyposs_trt.datasets.sizes import image_size
from keyposs_trt.errors import DataError, InputError
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from keyposs_trt.datasets.face import ImageInFile

MISSING_IMAGE = "missing image"
DAMAGED_IMAGE = "damaged image"
TRUNCATED = "truncated"
NOT_A_NUMBER = "not a number"
WRONG_COUNT = "wrong point count"
OUTSIDE = "point far outside the image"
DUPLICATE = "duplicate"
NO_SIZE = "face without size"
MISSING_ANNOTATION = "missing annotation"
DAMAGED_RECORD = "damaged record"

ON_PROBLEM = ("skip", "refuse")

_SAME = 0.02  # pixels


def collect(name: str, format_name: str, scheme: str, path: Path, records: Iterable[Face | Problem]) -> Dataset:
    """Checks what a loader found, in its order; DataError where nothing can be used."""
    points = len(load_scheme(scheme))
    sizes = Sizes()
    faces: list[Face] = []
    problems: list[Problem] = []
    known: dict[Path | ImageInFile, list[Face]] = {}
    for record in records:
        result = record if isinstance(record, Problem) else check_face(record, points, sizes)
        if isinstance(result, Face):
            result = _duplicate(result, known.get(result.image, ())) or result
        if isinstance(result, Face):
            known.setdefault(result.image, []).append(result)
            faces.append(result)
        else:
            problems.append(result)
    dataset = Dataset(name, format_name, scheme, path, tuple(faces), tuple(problems))
    if not faces:
        why = f": {problems_in_words(dataset)}" if problems else "; check the path and the split"
        raise DataError(f"No face of '{path}' ({format_name}) can be used{why}.")
    return dataset


def problems_in_words(dataset: Dataset) -> str:
    """The problems by kind, and the first in full; no full stop."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in dataset.problem_counts.items())
    number = len(dataset.problems)
    return f"{number} problem{'s' * (number != 1)} ({kinds}), first {dataset.problems[0]}"


def _duplicate(face: Face, others: Iterable[Face]) -> Problem | None:
    """The problem of a face whose points another one of its image has: to rounding, as copies may be written less precisely."""
    same = (other for other in others if np.allclose(face.points, other.points, rtol=0, atol=_SAME, equal_nan=True))
    first = next(same, None)
    if first is None:
        return None
    return Problem(face.where, DUPLICATE, f"the same points on the same image '{face.image_name}' as {first.where}")


class Sizes:
    """Sizes of images, each image looked at once."""

    def __init__(self) -> None:
        self._known: dict[Path | ImageInFile, tuple[int, int] | str] = {}

    def of(self, image: Path | ImageInFile) -> tuple[int, int] | str:
        """Width and height, or what is wrong with the image."""
        if image not in self._known:
            try:
                self._known[image] = image_size(image) if isinstance(image, Path) else image.size()
            except (InputError, DataError) as e:
                self._known[image] = str(e)
        return self._known[image]


def check_face(face: Face, count: int, sizes: Sizes) -> Face | Problem:
    """The face with its image's size, or why it cannot be used."""
    kind, text = _wrong_points(face, count) or _wrong_image(face, sizes) or ("", "")
    if kind:
        return Problem(face.where, kind, text)
    size = sizes.of(face.image)
    assert isinstance(size, tuple)
    points = face.points if face.labelled is None else face.points[face.labelled]
    text = _far_outside(points, size)
    return Problem(face.where, OUTSIDE, text) if text else replace(face, image_size=size)


def _wrong_points(face: Face, count: int) -> tuple[str, str] | None:
    if face.points.shape != (count, 2):
        return WRONG_COUNT, f"{len(face.points)} points instead of {count}"
    labelled = np.ones(count, bool) if face.labelled is None else face.labelled
    if not labelled.any():
        return MISSING_ANNOTATION, "no point is labelled"
    bad = ~np.isfinite(face.points).all(1) & labelled
    if bad.any():
        return NOT_A_NUMBER, f"point {int(bad.argmax())} is not a finite number"
    if face.box is not None and not np.isfinite(face.box).all():
        return NOT_A_NUMBER, "the box is not made of finite numbers"
    if not np.ptp(face.points[labelled], axis=0).max() > 0:
        return NO_SIZE, "all points are the same"
    return None


def _wrong_image(face: Face, sizes: Sizes) -> tuple[str, str] | None:
    size = sizes.of(face.image)
    if isinstance(size, tuple):
        return None
    if isinstance(face.image, Path) and not is_regular(face.image):
        return MISSING_IMAGE, f"there is no image '{face.image}'"
    return DAMAGED_IMAGE, size.rstrip(".")


def _far_outside(points: NDArray[np.float32], size: tuple[int, int]) -> str:
    """What is wrong, or nothing.

    Faces cut by the rim of a picture are annotated beyond it, so points a little outside are kept: up to the size of the face,
    which is taken between the 10th and the 90th percentile of its points, so that one stray point does not make it large.
    """
    last = np.array(size) - 1
    beyond = np.maximum(np.maximum(-points, points - last), 0).max(1)
    low, high = np.percentile(points, (10, 90), axis=0)
    worst = int(beyond.argmax())
    x, y = points[worst].tolist()
    if beyond[worst] > max(float((high - low).max()), 1.0):
        return f"point {worst} ({x:.1f}, {y:.1f}) lies far outside the image of {size[0]}x{size[1]} pixels"
    if (beyond > 0).all():
        return f"all points lie outside the image of {size[0]}x{size[1]} pixels"
    return ""
