"""Contact sheets: many face crops with their landmarks in one picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np

from keyposs_trt.crop import crop_faces
from keyposs_trt.drawing import draw_landmarks
from keyposs_trt.geometry import box_of_points, square_of_box, transform
from keyposs_trt.landmarks import Landmarks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIDE = 200  # pixels of a crop
_CAPTION = 18  # pixels under it
_GAP = 4
_MARGIN = 1.6  # side of the crop over the longer side of the box around the points: the surroundings show a shifted annotation
# BGR
_PAPER = (255, 255, 255)
_INK = (60, 60, 60)
_BOX = (200, 200, 200)
_HIDDEN = (60, 170, 255)


def draw_tile(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    scheme: str,
    caption: str = "",
    hidden: NDArray[np.bool_] | None = None,
    box: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """One face of a sheet.

    Args:
        image: [H, W, 3] uint8 BGR.
        points: [L, 2] image pixels; those that are NaN are left out.
        scheme: name of their scheme.
        caption: a line under the crop, shortened to fit.
        hidden: [L] bool, points to draw in orange.
        box: [4] x1 y1 x2 y2 in image pixels, drawn where given.

    Returns:
        [SIDE + 18, SIDE, 3] uint8 BGR: the crop, and its caption under it.
    """
    import cv2

    known = np.isfinite(points).all(1)
    squares = square_of_box(box_of_points(points[known]), _MARGIN)[None]
    crops, matrices = crop_faces(image, squares, SIDE)
    placed = transform(matrices[0], points)
    crop = cast("NDArray[np.uint8]", cv2.cvtColor(crops[0], cv2.COLOR_RGB2BGR))
    number = len(points)
    tight = box_of_points(placed[known])
    face = Landmarks(placed, np.ones(number, np.float32), np.zeros((number, 3), np.float32), tight, 1.0, scheme)
    if box is not None:
        corners = transform(matrices[0], np.asarray(box).reshape(2, 2)).clip(-4 * SIDE, 5 * SIDE).round().astype(int).tolist()
        cv2.rectangle(crop, corners[0], corners[1], _BOX, 1, cv2.LINE_AA)
    crop = draw_landmarks(crop, [face])
    for x, y in placed[known & (np.zeros(number, bool) if hidden is None else hidden)].tolist():
        cv2.circle(crop, (round(x * 16), round(y * 16)), 20, _HIDDEN, -1, cv2.LINE_AA, 4)
    picture = np.full((SIDE + _CAPTION, SIDE, 3), _PAPER, np.uint8)
    picture[:SIDE] = crop
    _write(picture, caption)
    return picture


def contact_sheet(tiles: Sequence[NDArray[np.uint8]], columns: int | None = None) -> NDArray[np.uint8]:
    """Tiles of ``draw_tile`` row by row, [H, W, 3] uint8 BGR; by default a little wider than high."""
    across = columns or max(1, min(len(tiles), math.ceil(math.sqrt(1.5 * len(tiles)))))
    down = max(1, math.ceil(len(tiles) / across))
    height, width = SIDE + _CAPTION, SIDE
    sheet = np.full((down * (height + _GAP) + _GAP, across * (width + _GAP) + _GAP, 3), _PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = _GAP + i // across * (height + _GAP), _GAP + i % across * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _write(picture: NDArray[np.uint8], caption: str) -> None:
    """The caption under the crop; OpenCV's letters are ASCII, and a name's end tells more than its beginning."""
    import cv2

    text = caption.encode("ascii", "replace").decode()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.36
    shown = text
    while shown and cv2.getTextSize(shown, font, scale, 1)[0][0] > SIDE - 4:
        text = text[1:]
        shown = f"..{text}"
    cv2.putText(picture, shown, (2, SIDE + 13), font, scale, _INK, 1, cv2.LINE_AA)
