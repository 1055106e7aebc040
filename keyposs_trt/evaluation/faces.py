"""Labelled faces from annotation files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import DataError
from keyposs_trt.geometry import box_of_points
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LabelledFace:
    """A face in an image file: points [L, 2] float32 and the box [4] x1 y1 x2 y2 to crop by, image pixels."""

    image: Path
    points: NDArray[np.float32]
    box: NDArray[np.float32]

    @classmethod
    def from_points(cls, image: Path, points: NDArray[np.floating]) -> LabelledFace:
        """A face whose box is the smallest one around its points."""
        return cls(image, points.astype(np.float32), box_of_points(points))


def read_mmpose_json(path: Path, scheme: str, as_scheme: str | None = None) -> list[LabelledFace]:
    """Reads annotations in mmpose's layout: COCO's ``images`` and ``annotations`` with ``keypoints`` [x, y, v] * L.

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
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in tree["images"]}
        rows = [(names[a["image_id"]], np.asarray(a["keypoints"], np.float64)) for a in tree["annotations"]]
    except FileNotFoundError:
        raise DataError(f"There is no annotation file '{path}'; check the path.") from None
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"'{path}' is not an annotation file in mmpose's JSON layout ({type(e).__name__}: {e}).") from e
    faces = []
    for number, (name, values) in enumerate(rows):
        if values.shape != (3 * len(source),):
            raise DataError(f"Face {number} of '{path}' has {values.size} numbers, '{scheme}' needs {3 * len(source)}; check the scheme.")
        faces.append(LabelledFace.from_points(path.parent / name, values.reshape(-1, 3)[list(subset), :2]))
    return faces
