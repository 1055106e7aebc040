"""How far landmarks move when the same faces are looked at in another precision, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.geometry import square_of_box
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.evaluation.located import Located


@dataclass(frozen=True)
class Drift:
    """Distances between the landmarks of two models on the same faces, in crop (network input) pixels.

    Attributes:
        mean, p99, largest: over all landmarks of all faces.
        worst: index of the landmark that moves most, by its mean over faces.
        worst_name, worst_part: its name, and the part of the face it belongs to.
        worst_mean: that mean.
        faces: number of faces that both models looked at.
    """

    mean: float
    p99: float
    largest: float
    worst: int
    worst_name: str
    worst_part: str
    worst_mean: float
    faces: int


def pairs_of(reference: Located, other: Located) -> tuple[list[int], list[int]]:
    """Indices of the faces that both models looked at and the detector found, in each of the two."""
    places = {id(face): i for i, face in enumerate(reference.dataset.faces) if not reference.missed[i]}
    found = [(places[id(face)], i) for i, face in enumerate(other.dataset.faces) if id(face) in places and not other.missed[i]]
    return [a for a, _ in found], [b for _, b in found]


def distances(reference: Located, other: Located, decoders: tuple[int, int], *, input_size: int, crop_scale: float) -> NDArray[np.float64]:
    """[P, L] how far the landmarks of the paired faces lie apart, in crop pixels.

    Args:
        reference, other: of the same data set and boxes.
        decoders: index of the decoder in each.
        input_size, crop_scale: of the models, which tell how large a crop pixel is in the image.
    """
    a, b = pairs_of(reference, other)
    moved = np.linalg.norm(other.points[decoders[1]][b].astype(np.float64) - reference.points[decoders[0]][a], axis=-1)
    sides = square_of_box(reference.boxes[a], crop_scale)[:, 2].astype(np.float64)
    return moved * (input_size / sides)[:, None]


def drift_of(moved: NDArray[np.float64], scheme: str) -> Drift | None:
    """The figures of ``distances`` [P, L] in a landmark scheme; None without faces."""
    if not len(moved):
        return None
    names = load_scheme(scheme)
    by_landmark = moved.mean(0)
    worst = int(by_landmark.argmax())
    part = next((name for name, index in names.parts.items() if worst in index), "")
    p99 = float(np.quantile(moved, 0.99))
    return Drift(float(moved.mean()), p99, float(moved.max()), worst, names.names[worst], part, float(by_landmark[worst]), len(moved))


def increase_of(reference: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """How much larger a mean NME is, and the standard error of that, from the NME of the same faces [P] by both; NaN faces are left out.

    The faces are the same, so the error is that of the mean of their differences, which is much smaller than that of either mean.
    """
    difference = (other - reference)[np.isfinite(other - reference)]
    if not len(difference):
        return math.nan, math.nan
    error = float(difference.std(ddof=1) / math.sqrt(len(difference))) if len(difference) > 1 else math.nan
    return float(difference.mean()), error
