"""Landmarks drawn on an image: the scheme's lines, the points, and what is uncertain about them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from keyposs_trt.errors import UsageError
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from keyposs_trt.landmarks import Landmarks

# BGR
_LINE = (255, 225, 150)
_CERTAIN = (90, 230, 60)
_DOUBTFUL = (60, 170, 255)
_UNCERTAIN = (60, 60, 255)
_BOX = (200, 200, 200)
_RIM = (30, 30, 30)

# Of the median score of the face: how high scores are differs from model to model, but in every one the points that score
# less than the others of their face are the ones further off.
_LOW_SCORE = 0.5
_FAIR_SCORE = 0.7
_NO_SCORE = 0.05  # below: the map is all but flat, whatever the others are
_WIDE_SIGMA = 0.05  # of the face: above, a point may be off by more than the parts of a face are apart; it is drawn with its ellipse
_SHIFT = 4  # OpenCV's fractional bits: drawing to 1/16 pixel
_FAR = 30_000.0  # image pixels; OpenCV's coordinates are 32 bit with the fraction


def draw_landmarks(image: NDArray[np.uint8], faces: Iterable[Landmarks], *, boxes: bool = False) -> NDArray[np.uint8]:
    """Draws faces on a copy of an image, with sizes that follow the size of each face.

    Points are green dots, those with less than 0.7 of the face's median score orange. Uncertain ones (see ``uncertain_points``)
    are red rings without lines; where the covariance is wide, the ellipse of two standard deviations is drawn too.

    Args:
        image: [H, W, 3] uint8 BGR, or grey [H, W].
        faces: in pixels of that image.
        boxes: draw the boxes the crops were made from.

    Raises:
        UsageError: a face has another number of points than its scheme.
    """
    import cv2

    out = cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)) if image.ndim == 2 else image.copy()
    for face in faces:
        if len(face) != len(load_scheme(face.scheme)):
            raise UsageError(f"A face has {len(face)} points, its scheme '{face.scheme}' has {len(load_scheme(face.scheme))}.")
        _draw_face(out, face, boxes)
    return out


def uncertain_points(face: Landmarks) -> NDArray[np.bool_]:
    """[L] bool: points with less than half of the face's median score, a score below 0.05, or a standard deviation above 5 % of the box."""
    low = max(_NO_SCORE, _LOW_SCORE * _median(face.scores))
    return (face.scores < low) | (face.sigma > _WIDE_SIGMA * _size(face)) | ~np.isfinite(face.points).all(-1)


def _median(values: NDArray[np.float32]) -> float:
    """The upper median; several times faster than ``numpy.median``."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _size(face: Landmarks) -> float:
    """The longer side of the face's box in pixels, within bounds that can be drawn."""
    x1, y1, x2, y2 = face.box.tolist()
    return min(max(x2 - x1, y2 - y1, 1.0), _FAR)


@cache
def _edges(scheme: str) -> NDArray[np.intp]:
    """[E, 2] pairs of points that the scheme's lines join."""
    return np.array([pair for path in load_scheme(scheme).lines for pair in pairwise(path)])


def _draw_face(out: NDArray[np.uint8], face: Landmarks, box: bool) -> None:
    import cv2

    size = _size(face)
    radius = max(0.9, size / 105)
    thickness = max(1, round(size / 300))
    uncertain = uncertain_points(face)
    finite = np.isfinite(face.points)
    fixed = (np.where(finite, face.points, 0).clip(-_FAR, _FAR) * 2**_SHIFT).round().astype(np.int32)
    centres = fixed.tolist()
    doubtful = (face.scores < _FAIR_SCORE * _median(face.scores)).tolist()

    def dot(i: int, extra: float, colour: tuple[int, int, int], width: int = -1) -> None:
        cv2.circle(out, centres[i], round((radius + extra) * 2**_SHIFT), colour, width, cv2.LINE_AA, _SHIFT)

    if box:
        low, high = np.round(np.clip(face.box, -_FAR, _FAR) * 2**_SHIFT).astype(int).reshape(2, 2).tolist()
        cv2.rectangle(out, low, high, _BOX, thickness, cv2.LINE_AA, _SHIFT)
    hollow = uncertain.tolist()
    edges = _edges(face.scheme)
    cv2.polylines(out, list(fixed[edges[~uncertain[edges].any(1)]]), False, _LINE, thickness, cv2.LINE_AA, _SHIFT)
    for i in np.flatnonzero(finite.all(-1)).tolist():
        if hollow[i]:
            dot(i, 0, _UNCERTAIN, thickness)
            _draw_spread(out, face, i, size, thickness)
        else:
            if radius > 2:
                dot(i, thickness, _RIM)
            dot(i, 0, _DOUBTFUL if doubtful[i] else _CERTAIN)


def _draw_spread(out: NDArray[np.uint8], face: Landmarks, i: int, size: float, thickness: int) -> None:
    """The ellipse of two standard deviations around point ``i``, where it is wide."""
    import cv2

    xx, xy, yy = (float(v) for v in face.covariance[i])
    if not np.isfinite([xx, xy, yy]).all() or (xx + yy) / 2 <= (_WIDE_SIGMA * size) ** 2:
        return
    values, vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    axes = np.minimum(2 * np.sqrt(np.maximum(values, 0)), size / 2)
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    centre = np.round(np.clip(face.points[i], -_FAR, _FAR) * 2**_SHIFT).astype(int).tolist()
    long_and_short = [round(float(a) * 2**_SHIFT) for a in axes[::-1]]
    cv2.ellipse(out, centre, long_and_short, angle, 0, 360, _UNCERTAIN, thickness, cv2.LINE_AA, _SHIFT)
