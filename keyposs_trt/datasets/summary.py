"""What a data set holds, in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyposs_trt.datasets.face import Dataset


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Counts and sizes, fit for JSON.

    Returns:
        name, format, scheme, path; faces, images, subsets (name -> faces); face_size and image_size (smallest, median, largest longer side
        in pixels; a face's is that of the box around its points); boxes (faces with an annotated box); hidden_points (share of the
        points marked as hidden, None where nobody marked any) and unlabelled_points (share); faces_beyond_image (with a point outside);
        problem_counts, problems (where, kind, text).
    """
    faces = dataset.faces
    sides = [float((f.landmark_box[2:] - f.landmark_box[:2]).max()) for f in faces]
    images = {f.image: f.image_size for f in faces}
    marked = [f.visibility for f in faces if f.visibility is not None]
    unlabelled = [0.0 if f.labelled is None else float(np.mean(~f.labelled)) for f in faces]
    return {
        "name": dataset.name,
        "format": dataset.format,
        "scheme": dataset.scheme,
        "path": str(dataset.path),
        "faces": len(faces),
        "images": len(images),
        "subsets": {name: len(index) for name, index in dataset.subsets.items()},
        "face_size": _spread(sides),
        "image_size": _spread([max(size) for size in images.values() if size]),
        "boxes": sum(f.box is not None for f in faces),
        "hidden_points": float(1 - np.mean(np.concatenate(marked))) if marked else None,
        "unlabelled_points": float(np.mean(unlabelled)) if unlabelled else 0.0,
        "faces_beyond_image": sum(_beyond(f.landmark_box.tolist(), f.image_size) for f in faces),
        "problem_counts": dataset.problem_counts,
        "problems": [{"where": p.where, "kind": p.kind, "text": p.text} for p in dataset.problems],
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    low, middle, high = np.percentile(values, (0, 50, 100)).round(1).tolist()
    return {"smallest": low, "median": middle, "largest": high}


def _beyond(box: Sequence[float], size: tuple[int, int] | None) -> bool:
    return size is not None and (min(box[:2]) < 0 or box[2] > size[0] - 1 or box[3] > size[1] - 1)
