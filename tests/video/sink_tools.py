"""Results for sinks, made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.contract import Frame, FrameResult, Source

if TYPE_CHECKING:
    from pathlib import Path

CLIP = Source("video", "clip.mp4")


def picture(value: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def result_of(index: int, time: float | None = None, *, source: Source = CLIP, stream: int = 0, faces: int = 0) -> FrameResult:
    """Of a frame of 10 a second."""
    one = Landmarks(np.zeros((2, 2), np.float32), np.ones(2, np.float32), np.zeros((2, 3), np.float32), np.zeros(4, np.float32), 0.5, "x")
    frame = Frame(picture(0), index, index / 10 if time is None else time)
    return FrameResult(source, stream, frame, [one] * faces, "x")


def values(path: Path) -> list[float]:
    """Mean grey value of every frame of a video."""
    capture, means = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        means.append(float(got[1].mean()))
    capture.release()
    return means
