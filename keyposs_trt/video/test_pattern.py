"""A moving picture without a camera, to try a pipeline and to measure it."""

from __future__ import annotations

import math
import time
from threading import Event as Signal
from typing import TYPE_CHECKING, cast

from keyposs_trt.images import read_image
from keyposs_trt.video.contract import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

_LAP = 4.0  # seconds in which a face comes back to its place


class PatternFrames:
    """Faces that swing over coloured bars.

    Args:
        options: width, height (640, 480), fps (25), frames (without end), faces (1), image (a picture that is moved instead of the
            drawn face), live (1: frames come in real time, and those nobody waits for are left out; 0: all, as fast as they are read).

    Raises:
        InputError: the picture cannot be read.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._width, self._height = int(options.get("width", "640")), int(options.get("height", "480"))
        self.fps, self.live = float(options.get("fps", "25")), options.get("live", "1") == "1"
        self.count = int(options["frames"]) if "frames" in options else None
        faces = int(options.get("faces", "1"))
        self._background = _bars(self._width, self._height)
        self._cell = self._width / max(faces, 1)
        room = 0.8 * min(self._cell, self._height)
        face = read_image(options["image"]) if "image" in options else _face()
        self._face, self._faces = _fitted(face, room), faces
        self._closed = Signal()

    def __iter__(self) -> Iterator[Frame]:
        start, index, number = time.monotonic(), 0, 0
        while not self._closed.is_set() and (self.count is None or index < self.count):
            if self.live:
                number = max(number, math.floor((time.monotonic() - start) * self.fps))
                if self._closed.wait(max(start + number / self.fps - time.monotonic(), 0.0)):
                    return
            yield Frame(self.picture(number / self.fps), index, number / self.fps, time.monotonic())
            index, number = index + 1, number + 1

    def close(self) -> None:
        """Ends the iteration, in whatever thread it runs."""
        self._closed.set()

    def picture(self, seconds: float) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 BGR: the pattern at a time."""
        import cv2
        import numpy as np

        image = self._background.copy()
        height, width = self._face.shape[:2]
        for i in range(self._faces):
            turn = 2 * math.pi * (seconds / _LAP + i / self._faces)
            x = (i + 0.5) * self._cell - width / 2 + 0.5 * (self._cell - width) * math.sin(turn)
            y = (self._height - height) / 2 * (1 + math.sin(2 * turn))
            move = np.array([[1, 0, x], [0, 1, y]], np.float32)
            cv2.warpAffine(self._face, move, (self._width, self._height), dst=image, borderMode=cv2.BORDER_TRANSPARENT)
        return image


def _bars(width: int, height: int) -> NDArray[np.uint8]:
    import numpy as np

    # White, yellow, cyan, green, magenta, red, blue at 75 %, as BGR.
    colours = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 0, 0]], np.float32) * 191
    row = colours[np.arange(width) * len(colours) // width]
    return np.broadcast_to(row, (height, width, 3)).astype(np.uint8)


def _face(size: int = 256) -> NDArray[np.uint8]:
    """A face as a child draws it: detectors of photographs need not find it."""
    import cv2
    import numpy as np

    image = np.full((size, size, 3), 64, np.uint8)
    middle = size // 2
    cv2.ellipse(image, (middle, middle), (size * 3 // 8, size * 15 // 32), 0, 0, 360, (150, 180, 220), -1, cv2.LINE_AA)
    for side in (-1, 1):
        eye = (middle + side * size * 5 // 32, size * 13 // 32)
        cv2.ellipse(image, eye, (size // 14, size // 28), 0, 0, 360, (250, 250, 250), -1, cv2.LINE_AA)
        cv2.circle(image, eye, size // 30, (60, 40, 30), -1, cv2.LINE_AA)
        cv2.ellipse(image, (eye[0], eye[1] - size // 14), (size // 10, size // 32), 0, 180, 360, (40, 50, 70), 4, cv2.LINE_AA)
    cv2.line(image, (middle, size * 14 // 32), (middle - size // 32, size * 19 // 32), (120, 145, 190), 4, cv2.LINE_AA)
    cv2.ellipse(image, (middle, size * 22 // 32), (size // 8, size // 20), 0, 0, 180, (90, 80, 190), -1, cv2.LINE_AA)
    return image


def _fitted(image: NDArray[np.uint8], room: float) -> NDArray[np.uint8]:
    import cv2

    scale = room / max(image.shape[:2])
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    return cast("NDArray[np.uint8]", cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))
