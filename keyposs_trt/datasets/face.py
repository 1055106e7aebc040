"""What every loader gives: faces, problems, and the data set that holds both."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keyposs_trt.errors import UsageError
from keyposs_trt.geometry import box_of_points
from keyposs_trt.images import read_image
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ImageInFile(Protocol):
    """A picture that lies inside an annotation file. It can be compared, hashed and sent to another process."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    def size(self) -> tuple[int, int]:
        """Width and height in pixels; DataError where there is no picture."""
        ...

    def read(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 BGR; DataError where there is no picture."""
        ...


@dataclass(frozen=True, eq=False)
class Face:
    """One annotated face.

    Published NME figures count every labelled point, hidden or not: ``labelled`` is the mask for ``metrics.nme``.

    Attributes:
        image: the image file, or the picture inside an annotation file.
        points: [L, 2] float32, x and y in image pixels; pixel centres lie at whole numbers, the first at 0.
        where: file and line, or file and record, of the annotation.
        visibility: [L] bool, False for a point marked as occluded; None where the data set does not say.
        labelled: [L] bool, False for a point without an annotation, whose coordinates mean nothing; None where all are annotated.
        box: [4] float32 x1 y1 x2 y2, the annotated face box in image pixels, or None.
        subsets: the names of the splits and subsets that the face belongs to.
        image_size: width and height of the image in pixels; None before the check.
    """

    image: Path | ImageInFile
    points: NDArray[np.float32]
    where: str
    visibility: NDArray[np.bool_] | None = None
    labelled: NDArray[np.bool_] | None = None
    box: NDArray[np.float32] | None = None
    subsets: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None

    @property
    def landmark_box(self) -> NDArray[np.float32]:
        """[4] float32 x1 y1 x2 y2: the smallest box around the labelled points."""
        return box_of_points(self.points if self.labelled is None else self.points[self.labelled])

    @property
    def image_name(self) -> str:
        """The image's file name, or the name of the picture inside a file."""
        return self.image.name

    def read_image(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 BGR.

        Raises:
            InputError: the image file is missing or damaged.
            DataError: the file that holds the picture is missing or damaged.
        """
        return read_image(self.image) if isinstance(self.image, Path) else self.image.read()

    def take(self, index: list[int]) -> Face:
        """The face with these points alone, in this order."""
        visibility, labelled = (None if mask is None else mask[index] for mask in (self.visibility, self.labelled))
        return replace(self, points=self.points[index], visibility=visibility, labelled=labelled)


@dataclass(frozen=True)
class Problem:
    """An annotation that cannot be used.

    Attributes:
        where: file and line, or file and record.
        kind: a constant of ``keyposs_trt.datasets.checks``.
        text: what is wrong with it.
    """

    where: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """The faces of a data set.

    Attributes:
        name: title of the data set or file.
        format: name of the format it was read from.
        scheme: name of the landmark scheme of all ``points``.
        path: what was opened.
        faces: those that can be used.
        problems: why the others cannot.
    """

    name: str
    format: str
    scheme: str
    path: Path
    faces: tuple[Face, ...]
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def subsets(self) -> dict[str, NDArray[np.intp]]:
        """Name of each split and subset -> indices of its faces, in the order in which the names appear."""
        found: dict[str, list[int]] = {}
        for number, face in enumerate(self.faces):
            for name in face.subsets:
                found.setdefault(name, []).append(number)
        return {name: np.array(index, np.intp) for name, index in found.items()}

    @property
    def problem_counts(self) -> dict[str, int]:
        """Kind of problem -> how many, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def subset(self, name: str) -> Dataset:
        """The faces of one subset, without the problems.

        Raises:
            UsageError: there is no such subset.
        """
        faces = tuple(face for face in self.faces if name in face.subsets)
        if not faces:
            raise UsageError(f"The data set '{self.path}' has no subset '{name}'; it has {', '.join(self.subsets) or 'none'}.")
        return replace(self, faces=faces, problems=())

    def as_scheme(self, name: str) -> Dataset:
        """The same faces with the points of another scheme.

        Raises:
            UsageError: there is no such scheme, or this one does not hold its points.
        """
        index = points_of_scheme(self.scheme, name)
        if index is None:
            return self
        return replace(self, scheme=load_scheme(name).name, faces=tuple(face.take(index) for face in self.faces))


def points_of_scheme(source: str, wanted: str) -> list[int] | None:
    """The indices that give the points of one scheme from those of another; None where both are the same.

    Raises:
        UsageError: there is no such scheme, or ``source`` does not hold the points of ``wanted``.
    """
    have, want = load_scheme(source), load_scheme(wanted)
    if have.name == want.name:
        return None
    if want.name not in have.subsets:
        known = ", ".join([have.name, *have.subsets])
        raise UsageError(f"The points of '{have.name}' do not give those of '{want.name}'; choose one of {known}.")
    return list(have.subsets[want.name])
