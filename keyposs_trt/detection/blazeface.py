"""BlazeFace, the face detector shipped with the package (``data/README.md`` says where it comes from).

The network sees the whole image letterboxed into 256 pixels and finds faces from about 4 % to all of its longer side, upright
or tilted by up to 60 degrees. Each of its 896 anchors gives a score, a box and six key points; the key points are turned into the box
around the landmarks, see ``landmark_box``. Boxes of faces below 20 of the 256 pixels are poor (mean IoU 0.58 at 10 pixels, 0.85 at
18, 0.92 from 32 on), so where there are such faces the network looks again at overlapping parts of the image.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from keyposs_trt.detection.detector import Detections, sorted_detections
from keyposs_trt.detection.landmark_box import load_outline_map
from keyposs_trt.engine.session import open_session

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

MODEL = Path(__file__).parent / "data" / "blazeface_back_256.onnx"
_SIZE = 256
_GRIDS = ((16, 2), (8, 6))  # cells a side, anchors a cell
_SAME_FACE = 0.3  # IoU
_SMALL = 20 / 256  # of the image's longer side: smaller faces are looked at again
_TILE_OVERLAP = 0.25  # of a tile's side: as much as the largest face a tile is asked for


class BlazeFace:
    """Detects faces. Safe to call from several threads.

    Attributes:
        min_score: faces below it are left out.
        tiles: look again at overlapping squares of half the image's longer side: None where the whole image shows a small face,
            True always (finds faces down to 2 % of the longer side, takes 4 to 10 times as long), False never.
    """

    def __init__(
        self,
        *,
        min_score: float = 0.5,
        tiles: bool | None = None,
        threads: int | None = None,
        model: str | os.PathLike[str] = MODEL,
    ) -> None:
        self.min_score = min_score
        self.tiles = tiles
        self._session = open_session(model, threads=threads)
        self._input = self._session.get_inputs()[0].name
        self._anchors = anchors()

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """The faces of an image [H, W, 3] uint8 BGR."""
        scores, shapes = self._find(image)
        small = shapes[:, 1].max(-1) < _SMALL * max(image.shape[:2])
        # The tiles show small faces better; one that they miss is taken as the whole image shows it.
        if self.tiles or (self.tiles is None and small.any() and max(image.shape[:2]) > _SIZE):
            parts = [(scores[~small], shapes[~small])]
            parts += [self._find_in_tile(image, *corner) for corner in tile_corners(*image.shape[:2])]
            better = merge(*(np.concatenate(p) for p in zip(*parts, strict=True)))
            rest = merge(scores[small], shapes[small])
            scores, shapes = (np.concatenate(p) for p in zip(better, without(rest, better), strict=True))
        else:
            scores, shapes = merge(scores, shapes)
        boxes = load_outline_map("blazeface").boxes(shapes[:, 2:]) if len(shapes) else np.zeros((0, 4))
        return sorted_detections(boxes, scores, self.min_score)

    def _find(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores [A] and shapes [A, 8, 2] of the anchors above ``min_score``, image pixels: centre, size, six key points."""
        picture, scale, shift = letterbox(image)
        outputs: Any = self._session.run(None, {self._input: picture[None]})
        score = 1 / (1 + np.exp(-np.clip(np.concatenate(outputs[:2], 1)[0, :, 0], -80, 80)))
        found = np.flatnonzero(score >= self.min_score)
        shapes = np.concatenate(outputs[2:], 1)[0, found].reshape(-1, 8, 2)
        size = shapes[:, 1].copy()
        shapes = (shapes + self._anchors[found, None] - shift) * scale - 0.5
        shapes[:, 1] = size * scale
        return score[found].astype(np.float32), shapes.astype(np.float32)

    def _find_in_tile(self, image: NDArray[np.uint8], x: int, y: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As ``_find``, in a square of the image; leaves out faces that the whole image or the next square shows better."""
        height, width = image.shape[:2]
        tile = image[y : y + side, x : x + side]
        scores, shapes = self._find(tile)
        low, high = shapes[:, 0] - shapes[:, 1] / 2, shapes[:, 0] + shapes[:, 1] / 2
        # A face may reach over an edge of the tile only where that is the edge of the image.
        least = [0 if x > 0 else -np.inf, 0 if y > 0 else -np.inf]
        most = [side if x + side < width else np.inf, side if y + side < height else np.inf]
        good = (low >= least).all(-1) & (high <= most).all(-1) & (shapes[:, 1].max(-1) < side * _TILE_OVERLAP)
        shapes[:, [0, *range(2, 8)]] += np.array([x, y], np.float32)
        return scores[good], shapes[good]


def anchors() -> NDArray[np.float32]:
    """[896, 2] centres of the anchors in network pixels, measured from the corner of the picture."""
    out = []
    for cells, count in _GRIDS:
        centre = (np.arange(cells, dtype=np.float32) + 0.5) * (_SIZE / cells)
        grid = np.stack(np.meshgrid(centre, centre), -1).reshape(-1, 2)
        out.append(np.repeat(grid, count, 0))
    return np.concatenate(out)


def letterbox(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Fits an image into the network's square.

    Returns:
        picture: [256, 256, 3] float32 RGB in [-1, 1].
        scale: [2] image pixels per network pixel, x and y.
        shift: [2] border on the left and at the top, network pixels: ``image = (network - shift) * scale - 0.5``.
    """
    import cv2

    height, width = image.shape[:2]
    k = _SIZE / max(height, width)
    w, h = max(1, round(width * k)), max(1, round(height * k))
    small = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if k < 1 else cv2.INTER_LINEAR)
    x, y = (_SIZE - w) // 2, (_SIZE - h) // 2
    square = cv2.copyMakeBorder(small, y, _SIZE - h - y, x, _SIZE - w - x, cv2.BORDER_CONSTANT)
    picture = cv2.cvtColor(square, cv2.COLOR_BGR2RGB).astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
    return picture, np.array([width / w, height / h], np.float32), np.array([x, y], np.float32)


def merge(scores: NDArray[np.float32], shapes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Non-maximum suppression that averages instead of dropping: steadier boxes and key points.

    Args:
        scores: [A].
        shapes: [A, 8, 2] centre, size and key points.

    Returns:
        scores [F] of the best anchor of each face, falling, and its shapes [F, 8, 2], weighted by the scores.
    """
    order = np.argsort(-scores, kind="stable")
    scores, shapes = scores[order], shapes[order]
    low, high = shapes[:, 0] - shapes[:, 1] / 2, shapes[:, 0] + shapes[:, 1] / 2
    area = np.maximum(shapes[:, 1], 0).prod(-1)
    left = np.ones(len(scores), bool)
    best, mean = [], []
    for i in range(len(scores)):
        if not left[i]:
            continue
        overlap = np.maximum(np.minimum(high, high[i]) - np.maximum(low, low[i]), 0).prod(-1)
        same = left & (overlap > _SAME_FACE * (area + area[i] - overlap))
        same[i] = True
        left &= ~same
        best.append(i)
        mean.append(np.average(shapes[same], axis=0, weights=scores[same]))
    return scores[best], cast("NDArray[np.float32]", np.asarray(mean, np.float32).reshape(-1, 8, 2))


def without(
    found: tuple[NDArray[np.float32], NDArray[np.float32]], known: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Those of the faces found whose box touches no box of the known ones; each a pair of scores [F] and shapes [F, 8, 2].

    The faces found are small ones of the whole image. Their boxes are too poor for an IoU to tell one face from two: some lie at the
    chin of a face that a tile shows in its place.
    """
    a, b = found[1][:, None], known[1][None]
    new = (np.abs(a[:, :, 0] - b[:, :, 0]) > (a[:, :, 1] + b[:, :, 1]) / 2).any(-1).all(-1)
    return found[0][new], found[1][new]


def tile_corners(height: int, width: int) -> list[tuple[int, int, int]]:
    """x, y and side of overlapping squares, half as large as the image's longer side, that cover the image."""
    side = -(-max(height, width) // 2)

    def starts(length: int) -> list[int]:
        count = 1 + max(0, int(np.ceil((length - side) / (side * (1 - _TILE_OVERLAP)))))
        return np.linspace(0, max(0, length - side), count).round().astype(int).tolist()

    return [(x, y, side) for y, x in product(starts(height), starts(width))]
