"""Video files and cameras, frame by frame, through OpenCV."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from keyposs_trt.errors import InputError
from keyposs_trt.files import is_utf8
from keyposs_trt.video.contract import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    import cv2
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_FPS = 25.0


class VideoFrames:
    """The frames of a video file, turned upright where its metadata say so.

    Raises:
        InputError: when opened, the file is missing, empty or not a video; at the end of the iteration, after all frames
            that could be read, that the file breaks off.
    """

    live = False

    def __init__(self, path: str) -> None:
        import cv2

        self._path = path
        try:
            with Path(path).open("rb") as f:
                empty = not f.read(1)
        except FileNotFoundError:
            raise InputError(f"There is no video '{path}'; check the path.") from None
        except OSError as e:
            raise InputError(f"Cannot read video '{path}': {e.strerror or e}; give a file you may read.") from e
        if empty:
            raise InputError(f"The video '{path}' is empty; copy or record it again.")
        if not is_utf8(path):
            raise InputError(f"Cannot read video '{path}': OpenCV opens names in UTF-8 only; rename it.")
        self._capture = cv2.VideoCapture(path)
        if not self._capture.isOpened():
            self._capture.release()
            raise InputError(f"'{path}' is damaged, cut off or not a video OpenCV can read; copy it again, or convert it to MP4.")
        self.fps = _fps(self._capture)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if math.isfinite(count) and 0 < count < 2**31 else None

    def __iter__(self) -> Iterator[Frame]:
        import cv2

        index, last = 0, -1 / self.fps
        while True:
            ok, image = self._capture.read()
            if not ok:
                break
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Some containers carry no time stamps (0 or nonsense): then the frame rate tells the time.
            last = stamp if math.isfinite(stamp) and stamp > last else last + 1 / self.fps
            yield Frame(cast("NDArray[np.uint8]", image), index, last)
            index += 1
        if index == 0:
            raise InputError(f"No frame of video '{self._path}' can be decoded; copy it again, or convert it to MP4.")
        if self._breaks_off(index, last):
            raise InputError(
                f"The video '{self._path}' breaks off after {index} of {self.count} frames; what could be read was used: copy it again."
            )

    def _breaks_off(self, frames: int, last: float) -> bool:
        """Whether the end is missing: frames and seconds both, since containers estimate one or the other."""
        if self.count is None:
            return False
        length = self.count / self.fps
        return frames < self.count - 1 and length - (last + 1 / self.fps) > min(1.0, 0.2 * length)

    def close(self) -> None:
        """Releases the file."""
        self._capture.release()


class CameraFrames:
    """The frames of a camera as they come, until it stops.

    Raises:
        InputError: the camera is not there or gives no picture; at the end, that it stopped.
    """

    live = True
    count = None

    def __init__(self, name: str) -> None:
        import cv2

        self._name = name
        absent = InputError(f"Camera '{name}' cannot be opened; check that it is plugged in, free, and that you may use /dev/video*.")
        if not is_utf8(name):
            raise absent
        try:
            self._capture = cv2.VideoCapture(int(name) if name.isdecimal() else name)
        except (cv2.error, ValueError):  # a number too large for OpenCV, or even for Python
            raise absent from None
        if not self._capture.isOpened():
            self._capture.release()
            raise absent
        self.fps = _fps(self._capture)

    def __iter__(self) -> Iterator[Frame]:
        index, start = 0, time.monotonic()
        while True:
            ok, image = self._capture.read()
            if not ok:
                raise InputError(f"Camera '{self._name}' stopped after {index} frames; plug it in again.")
            if index == 0:
                start = time.monotonic()
            yield Frame(cast("NDArray[np.uint8]", image), index, time.monotonic() - start)
            index += 1

    def close(self) -> None:
        """Frees the camera."""
        self._capture.release()


def _fps(capture: cv2.VideoCapture) -> float:
    import cv2

    fps = capture.get(cv2.CAP_PROP_FPS)
    return float(fps) if math.isfinite(fps) and 0.01 <= fps <= 1000 else DEFAULT_FPS
