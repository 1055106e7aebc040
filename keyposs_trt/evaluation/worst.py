"""A contact sheet of the faces with the largest errors: truth and prediction on the crop."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from keyposs_trt.contact_sheet import SIDE, contact_sheet
from keyposs_trt.crop import crop_faces
from keyposs_trt.geometry import box_of_points, square_of_box, transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.datasets import Face
    from keyposs_trt.evaluation.located import Located

FACES = 24  # on a sheet
_CAPTION = 18  # pixels under a crop, as contact_sheet's tiles have
_MARGIN = 1.6
# BGR
_TRUTH = (90, 230, 60)
_FOUND = (60, 60, 255)
_LINE = (0, 220, 255)
_INK = (60, 60, 60)


def worst_faces(errors: NDArray[np.float64], missed: NDArray[np.bool_], number: int = FACES) -> list[int]:
    """Indices of the faces [F] with the largest NME, those the detector missed first; faces that cannot be measured are left out."""
    rank = np.where(missed, np.inf, errors)
    order = np.argsort(-np.nan_to_num(rank, nan=-1.0, posinf=np.inf), kind="stable")
    return [int(i) for i in order if not np.isnan(rank[i])][:number]


def draw_worst(located: Located, errors: NDArray[np.float64], decoder: int = 0, number: int = FACES) -> NDArray[np.uint8]:
    """[H, W, 3] uint8 BGR: the worst faces by ``errors`` [F], the worst first.

    Annotated points are green, those of the decoder with that index red, a yellow line between the two; the caption is the NME and the
    image's name.
    """
    tiles = []
    for i in worst_faces(errors, located.missed, number):
        face = located.dataset.faces[i]
        what = "missed" if located.missed[i] else f"{100 * errors[i]:.1f} %"
        tiles.append(draw_face(face, located.points[decoder, i], f"{what} {face.image_name}"))
    return contact_sheet(tiles)


def draw_face(face: Face, found: NDArray[np.float32], caption: str) -> NDArray[np.uint8]:
    """[SIDE + 18, SIDE, 3] uint8 BGR: one face of a sheet with the points that were ``found`` [L, 2], image pixels."""
    import cv2

    seen = np.ones(len(face.points), bool) if face.labelled is None else face.labelled
    square = square_of_box(box_of_points(face.points[seen]), _MARGIN)[None]
    crops, matrices = crop_faces(face.read_image(), square, SIDE)
    crop = cast("NDArray[np.uint8]", cv2.cvtColor(crops[0], cv2.COLOR_RGB2BGR))
    for truth, point in zip(*(transform(matrices[0], p[seen]) for p in (face.points, found)), strict=True):
        a = _sixteenths(truth)
        if np.isfinite(point).all():
            b = _sixteenths(point)
            cv2.line(crop, a, b, _LINE, 1, cv2.LINE_AA, 4)
            cv2.circle(crop, b, 24, _FOUND, -1, cv2.LINE_AA, 4)
        cv2.circle(crop, a, 24, _TRUTH, -1, cv2.LINE_AA, 4)
    picture = np.full((SIDE + _CAPTION, SIDE, 3), 255, np.uint8)
    picture[:SIDE] = crop
    text = caption.encode("ascii", "replace").decode()[:32]
    cv2.putText(picture, text, (2, SIDE + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.36, _INK, 1, cv2.LINE_AA)
    return picture


def _sixteenths(point: NDArray[np.float32]) -> tuple[int, int]:
    """A point as OpenCV draws it, to 1/16 pixel; what lies far outside the crop is drawn nearer."""
    x, y = np.clip(point * 16, -16 * 8 * SIDE, 16 * 8 * SIDE).round().astype(int).tolist()
    return x, y
