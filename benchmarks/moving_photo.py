"""Clips made of one photograph: a face that rests, moves, talks or is half covered, as a camera would show it.

Every frame has fresh noise of the sensor, flickering light and its own JPEG compression; what moves is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHOTO = Path(__file__).resolve().parent.parent / "examples" / "astronaut.jpg"
RATE = 30.0  # frames a second
NOISE = 4.0  # levels
ROAM = 200  # pixels by which the noise is larger than the picture
FLICKER = 0.015  # of the light
KINDS = ("still", "covered", "moving", "fast", "talking")
CHIN, LOWER_LIP = 8, 57  # landmarks


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a moved photograph.

    Attributes:
        frames: [H, W, 3] uint8 BGR each.
        motion: [T, 2, 3], from the photograph to each frame.
    """

    frames: list[NDArray[np.uint8]]
    motion: NDArray[np.float64]

    @property
    def times(self) -> list[float]:
        """Seconds of each frame."""
        return [i / RATE for i in range(len(self.frames))]


def make_clip(kind: str, points: NDArray[np.float32], length: int, seed: int = 0) -> Clip:
    """A clip.

    Args:
        kind: one of ``KINDS``.
        points: [68, 2], the landmarks in the photograph.
        length: in frames.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    photo = cv2.imread(str(PHOTO))
    if photo is None:
        raise SystemExit(f"error: There is no photograph '{PHOTO}'; run this from a checkout.")
    side = float(np.ptp(points, axis=0).max())
    middle = (points.max(0) + points.min(0)) / 2
    motion = np.stack([_motion(kind, i / RATE, middle, side) for i in range(length)])
    frames = []
    noise = NOISE * rng.standard_normal((photo.shape[0] + ROAM, photo.shape[1] + ROAM, 3), np.float32)
    for i, matrix in enumerate(motion):
        face = _mouth_open(photo, points, side, i / RATE) if kind == "talking" else photo
        picture = cv2.warpAffine(face, matrix, photo.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        if kind == "covered":
            low, high = (points.min(0) - 0.1 * side).astype(int), (points.max(0) + 0.1 * side).astype(int)
            picture[int(low[1] + 0.6 * (high[1] - low[1])) : high[1], low[0] : high[0]] = (120, 140, 160)
        frames.append(_camera(picture, noise, rng, i))
    return Clip(frames, motion)


def _motion(kind: str, t: float, middle: NDArray[np.float32], side: float) -> NDArray[np.float64]:
    """[2, 3]: of a face of a size in pixels, at a time in seconds."""
    tempo, reach = {"moving": (0.5, 0.5), "fast": (1.7, 1.1)}.get(kind, (0.0, 0.0))
    turn = 2 * np.pi * tempo * t
    matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), 8 * np.sin(0.7 * turn), 1 + 0.08 * np.sin(0.6 * turn))
    matrix[:, 2] += reach * side * np.sin(turn), 0.4 * reach * side * np.sin(0.8 * turn)
    return np.asarray(matrix)


def _mouth_open(photo: NDArray[np.uint8], points: NDArray[np.float32], side: float, t: float) -> NDArray[np.uint8]:
    """The photograph with lower lip and chin pulled down, four times in three seconds."""
    x, y = points[LOWER_LIP]
    down, across = np.mgrid[: photo.shape[0], : photo.shape[1]].astype(np.float32)
    reach = np.exp(-(((across - x) / (0.25 * side)) ** 2 + ((down - y) / (0.22 * side)) ** 2) / 2)
    pull = 0.06 * side * max(0.0, np.sin(2 * np.pi * 4 / 3 * t))
    return cv2.remap(photo, across, (down - pull * reach).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _camera(picture: NDArray[np.uint8], noise: NDArray[np.float32], rng: np.random.Generator, i: int) -> NDArray[np.uint8]:
    light = 1 + FLICKER * np.sin(2 * np.pi * 7.3 * i / RATE) + rng.normal(0, FLICKER / 3)
    # Another part of the noise each time: as good as fresh, and several times as fast.
    y, x = rng.integers(0, ROAM, 2)
    seen = picture * np.float32(light) + noise[y : y + picture.shape[0], x : x + picture.shape[1]]
    seen = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
    _, file = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(80, 93))])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)
