"""Labelled faces from annotation files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.datasets.coco import CocoFile
from keyposs_trt.datasets.face import Problem
from keyposs_trt.datasets.mmpose import WHAT, faces_of
from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.geometry import box_of_points
from keyposs_trt.images import read_image
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.datasets import Dataset, Face, ImageInFile

BOXES = ("landmarks", "annotated")


@dataclass(frozen=True, eq=False)
class LabelledFace:
    """A face in an image: points [L, 2] float32 and the box [4] x1 y1 x2 y2 to crop by, image pixels.

    ``labelled`` [L] bool is False for points that are not annotated, which NME leaves out; None counts all.
    """

    image: Path | ImageInFile
    points: NDArray[np.float32]
    box: NDArray[np.float32]
    labelled: NDArray[np.bool_] | None = None

    @classmethod
    def from_points(cls, image: Path, points: NDArray[np.floating]) -> LabelledFace:
        """A face whose box is the smallest one around its points."""
        return cls(image, points.astype("float32"), box_of_points(points))

    @classmethod
    def from_face(cls, face: Face, boxes: str = BOXES[0]) -> LabelledFace:
        """A face of a data set, to be cropped by the box around its ``landmarks`` or by the ``annotated`` one.

        Raises:
            UsageError: there is no such kind of box.
            DataError: the face has no annotated box.
        """
        if boxes not in BOXES:
            raise UsageError(f"'{boxes}' is no kind of box; choose one of {', '.join(BOXES)}.")
        box = face.landmark_box if boxes == BOXES[0] else face.box
        if box is None:
            raise DataError(f"{face.where} has no annotated box; crop by the box around the landmarks.")
        return cls(face.image, face.points, box, face.labelled)

    def read_image(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 BGR; InputError or DataError where it cannot be read."""
        return read_image(self.image) if isinstance(self.image, Path) else self.image.read()


def labelled_faces(dataset: Dataset, boxes: str = BOXES[0]) -> list[LabelledFace]:
    """The faces of a data set, see ``LabelledFace.from_face``."""
    return [LabelledFace.from_face(face, boxes) for face in dataset.faces]


def read_mmpose_json(path: Path, scheme: str, as_scheme: str | None = None) -> list[LabelledFace]:
    """Reads annotations in mmpose's layout: COCO's ``images`` and ``annotations`` with ``keypoints`` [x, y, v] * L.

    The images are not looked at; ``keyposs_trt.datasets.open_dataset`` checks them too.

    Args:
        path: the JSON file; images lie beside it.
        scheme: the scheme of the annotations.
        as_scheme: give the points of this scheme instead, by the subset that ``scheme`` knows.

    Raises:
        DataError: the file is missing, not such JSON, or a face has another number of points.
    """
    source = load_scheme(scheme)
    subset = range(len(source)) if as_scheme in (None, scheme) else source.subsets.get(str(as_scheme))
    if subset is None:
        raise DataError(f"The scheme '{scheme}' has no subset '{as_scheme}'; it has {', '.join(source.subsets) or 'none'}.")
    faces = []
    for number, face in enumerate(faces_of(CocoFile.read(path, WHAT))):
        if isinstance(face, Problem):
            raise DataError(f"{face}; correct it or leave it out.")
        if len(face.points) != len(source):
            needed = f"'{scheme}' needs {3 * len(source)}"
            raise DataError(f"Face {number} of '{path}' has {3 * len(face.points)} numbers, {needed}; check the scheme.")
        faces.append(LabelledFace.from_face(face.take(list(subset))))
    return faces
