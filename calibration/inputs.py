"""What a user names with ``--data``: a folder of images or an annotated data set, as calibration crops and as labelled faces."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.calibration.sets import collect, collect_faces
from keyposs_trt.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyposs_trt.calibration.sets import CalibrationSet
    from keyposs_trt.datasets import Dataset, Face
    from keyposs_trt.graph.contract import ModelSpec


@dataclass(frozen=True)
class Source:
    """Where faces are.

    Attributes:
        path: a folder of images, or what ``open_dataset`` takes.
        format: of the data set; None finds out.
        split: one part of the data set alone.
        boxes: ``landmarks``, ``annotated`` or ``detector``; None for the landmarks where there are any, else the detector.
        detector: name of the face detector.
    """

    path: str
    format: str | None = None
    split: str | None = None
    boxes: str | None = None
    detector: str = "blazeface"

    @property
    def words(self) -> str:
        """For reports."""
        return f"{self.path}, {self.split}" if self.split else self.path


def calibration_set(
    source: Source,
    spec: ModelSpec,
    count: int,
    *,
    seed: int = 0,
    on_problem: str = "refuse",
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> CalibrationSet:
    """Crops for a model: of an annotated data set by its boxes, of a folder of plain images by the detector's.

    Raises:
        UsageError: what was asked for needs annotations, and there are none.
        DataError: see ``collect`` and ``collect_faces``.
    """
    from keyposs_trt.detection import load_detector

    common: dict[str, Any] = {
        "size": spec.input_size,
        "crop_scale": spec.crop_scale,
        "seed": seed,
        "on_problem": on_problem,
        "progress": progress,
    }
    if source.boxes != "detector":
        dataset = _opened(source, None)
        if dataset is not None:
            return collect_faces(dataset, count, boxes=source.boxes or "landmarks", **common)
    if source.split is not None or source.boxes in ("landmarks", "annotated"):
        what = f"split '{source.split}'" if source.split is not None else f"{source.boxes} boxes"
        raise UsageError(f"'{source.path}' is a folder of plain images, which has no {what}; name its --format, or leave that out.")
    detector = load_detector(source.detector, threads=threads)
    return collect(source.path, count, lambda image: detector(image).boxes, **common)


def labelled_faces(source: Source, spec: ModelSpec, most: int) -> list[Face]:
    """At most ``most`` labelled faces in the model's landmark scheme, chosen by a hash of where they stand.

    Raises:
        DataError: there is no such data set, or it has no annotations.
        UsageError: it does not have the points of the model's scheme.
    """
    dataset = _opened(source, spec.scheme)
    faces = [] if dataset is None else list(dataset.faces)
    return sorted(faces, key=lambda face: hashlib.sha256(f"check/{face.where}".encode()).digest())[:most]


def _opened(source: Source, scheme: str | None) -> Dataset | None:
    """The data set. A folder whose format nobody named and nobody knows is one of plain images: None, unless points are needed."""
    from keyposs_trt.datasets import open_dataset

    try:
        return open_dataset(source.path, source.format, scheme, source.split)
    except DataError:
        if scheme is not None or source.format is not None or not Path(source.path).is_dir():
            raise
        return None
