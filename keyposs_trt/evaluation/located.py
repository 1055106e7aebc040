"""The landmarks a model finds on all faces of a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.datasets import Problem
from keyposs_trt.datasets.face import points_of_scheme
from keyposs_trt.errors import DataError, InputError, UsageError
from keyposs_trt.evaluation.measure import locate
from keyposs_trt.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from keyposs_trt.datasets import Dataset, Face, ImageInFile
    from keyposs_trt.evaluation.boxes import BoxSource
    from keyposs_trt.evaluation.locator import Locator

UNREADABLE = "unreadable image"
NO_BOX = "no box"
NO_POINT = "no labelled point"
NOT_DETECTED = "not detected"


@dataclass(frozen=True, eq=False)
class Located:
    """Landmarks beside the truth.

    Attributes:
        dataset: the F faces that were looked at, in the scheme of the points.
        decoders: D names.
        points: [D, F, L, 2] float32, image pixels; NaN for a face that the detector did not find.
        boxes: [F, 4] float32 what the faces were cropped by; NaN likewise.
        left_out: faces that are not among the F, and why.
    """

    dataset: Dataset
    decoders: tuple[str, ...]
    points: NDArray[np.float32]
    boxes: NDArray[np.float32]
    left_out: tuple[Problem, ...]

    @property
    def truth(self) -> NDArray[np.float32]:
        """[F, L, 2] annotated points, image pixels."""
        return np.stack([face.points for face in self.dataset.faces])

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """[F, L] which points are annotated."""
        return np.stack([np.ones(len(f.points), bool) if f.labelled is None else f.labelled for f in self.dataset.faces])

    @property
    def missed(self) -> NDArray[np.bool_]:
        """[F] which faces the detector did not find."""
        return np.isnan(self.boxes[:, 0])


def in_common_scheme(dataset: Dataset, scheme: str) -> Dataset:
    """The data set with the points of the model's ``scheme`` where it holds them; as it is where the model must give its points.

    Raises:
        UsageError: neither holds the points of the other.
    """
    try:
        return dataset.as_scheme(scheme)
    except UsageError:
        _points_to_take(dataset, scheme)
        return dataset


def in_one_scheme(dataset: Dataset, schemes: Iterable[str]) -> Dataset:
    """The data set with the points in which models of these schemes are all compared with it; see ``in_common_scheme``.

    Raises:
        UsageError: a model's points cannot be compared, or the models would be compared by different points.
    """
    found = {found.scheme: found for found in (in_common_scheme(dataset, scheme) for scheme in dict.fromkeys(schemes))}
    if len(found) > 1:
        raise UsageError(f"The models would be compared by the points of {', '.join(found)}; choose one scheme with --scheme.")
    return next(iter(found.values()))


def locate_faces(
    locator: Locator,
    dataset: Dataset,
    boxes: BoxSource,
    flip_test: bool = False,
    progress: Callable[[Iterable[Face]], Iterable[Face]] = iter,
) -> Located:
    """Runs a model on every face of a data set.

    Args:
        locator: the model.
        dataset: in a scheme whose points the model gives.
        boxes: what to crop by.
        flip_test: average the landmarks with those of the mirror image.
        progress: wraps the faces, to show how far it is.

    Raises:
        UsageError: the model does not give the points of the data set's scheme.
        DataError: no face could be looked at, or none was detected.
    """
    return join(dataset, locator.decoders, look_at(locator, dataset, boxes, flip_test), progress)


@dataclass(frozen=True, eq=False)
class Found:
    """What was found of one face: points [D, L, 2] and the box [4] it was cropped by; all NaN where the detector missed it."""

    points: NDArray[np.float32]
    box: NDArray[np.float32]


def look_at(locator: Locator, dataset: Dataset, boxes: BoxSource, flip_test: bool = False) -> Iterator[Found | Problem]:
    """For each face of a data set, in its order, what a model finds or why it could not look; arguments as of ``locate_faces``.

    Raises:
        UsageError: the model does not give the points of the data set's scheme.
    """
    index = _points_to_take(dataset, locator.scheme.name)
    flip = locator.scheme.flip if flip_test else None
    pictures = _LastPicture(boxes)
    for face in dataset.faces:
        if face.labelled is not None and not face.labelled.any():
            yield Problem(face.where, NO_POINT, f"none of the points of '{dataset.scheme}' is labelled")
            continue
        try:
            image, candidates = pictures(face.image)
        except (InputError, DataError) as e:
            yield Problem(face.where, UNREADABLE, str(e))
            continue
        box = boxes(face, candidates)
        if box is not None:
            found = locate(locator, image, box, flip)
            yield Found(found if index is None else found[:, index], box)
        elif candidates is not None:
            nothing = np.full((len(locator.decoders), len(face.points), 2), np.nan, np.float32)
            yield Found(nothing, np.full(4, np.nan, np.float32))
        else:
            yield Problem(face.where, NO_BOX, f"the box {boxes} is missing or smaller than a pixel; choose another with --boxes")


def join(
    dataset: Dataset,
    decoders: tuple[str, ...],
    results: Iterator[Found | Problem],
    progress: Callable[[Iterable[Face]], Iterable[Face]] = iter,
) -> Located:
    """Puts together what was found of each face of a data set, in its order.

    Raises:
        DataError: no face could be looked at, or none was detected.
    """
    faces: list[Face] = []
    found: list[Found] = []
    left_out: list[Problem] = []
    for face in progress(dataset.faces):
        result = next(results)
        if isinstance(result, Problem):
            left_out.append(result)
        else:
            faces.append(face)
            found.append(result)
    if not faces:
        first = f"; the first: {left_out[0]}" if left_out else ""
        raise DataError(f"None of the {len(dataset)} faces of '{dataset.path}' can be evaluated{first.rstrip('.')}.")
    points, boxes = np.stack([f.points for f in found], 1), np.stack([f.box for f in found])
    located = Located(replace(dataset, faces=tuple(faces)), decoders, points, boxes, tuple(left_out))
    if located.missed.all():
        raise DataError(f"The detector found none of the {len(faces)} faces of '{dataset.path}'; crop by the box around the landmarks.")
    return located


class _LastPicture:
    """Reads images, keeping the last one: the faces of one image mostly stand together."""

    def __init__(self, boxes: BoxSource) -> None:
        self._boxes = boxes
        self._name: Path | ImageInFile | None = None
        self._kept: tuple[NDArray[np.uint8], NDArray[np.float32] | None] | None = None

    def __call__(self, name: Path | ImageInFile) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """The image and what the detector finds in it; InputError or DataError where it cannot be read."""
        if self._kept is None or name != self._name:
            self._kept = None
            image = read_image(name) if isinstance(name, Path) else name.read()
            self._name, self._kept = name, (image, self._boxes.candidates(image))
        return self._kept


def _points_to_take(dataset: Dataset, scheme: str) -> list[int] | None:
    """Which of the model's points are those of the data set; None for all."""
    try:
        return points_of_scheme(scheme, dataset.scheme)
    except UsageError as e:
        raise UsageError(
            f"The model finds the points of '{scheme}', which cannot be compared with those of '{dataset.scheme}' in '{dataset.path}'; "
            "evaluate it on a data set of its scheme."
        ) from e
