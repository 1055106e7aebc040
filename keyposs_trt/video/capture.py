"""Video files, cameras and streams through OpenCV."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, cast

from keyposs_trt.errors import InputError
from keyposs_trt.files import is_utf8
from keyposs_trt.video.clocks import FileClock
from keyposs_trt.video.contract import Event, Frame
from keyposs_trt.video.feeds import BrokenError, Picture, breaks_off, plausible_fps
from keyposs_trt.video.streams import SizeWatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import cv2
    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import Report

_CLOSING = 0.8  # seconds that closing waits for a read
_MISSES = 10  # reads in a row that may fail before a camera is lost: a damaged frame is one of them, a pulled plug all
_CAMERA_GONE = "check that it is plugged in, free, and that you may use /dev/video*"


class VideoFrames:
    """The frames of a video file, turned upright where its metadata say so; sound is left alone.

    Raises:
        InputError: when opened, the file is missing, empty or not a video; at the end of the iteration, after all frames
            that could be read, that the file breaks off.
    """

    live = False

    def __init__(self, path: str, report: Report = lambda _: None) -> None:
        import cv2

        self._path = path
        check_video(path)
        self._capture = cv2.VideoCapture(path)
        if not self._capture.isOpened():
            self._capture.release()
            raise InputError(f"'{path}' is damaged, cut off or not a video OpenCV can read; copy it again, or convert it to MP4.")
        self.fps = plausible_fps(self._capture.get(cv2.CAP_PROP_FPS))
        self.count = frame_count(self._capture)
        self._size = SizeWatch(f"The video '{path}'", report)
        self._guard, self._closed = Lock(), False

    def __iter__(self) -> Iterator[Frame]:
        index, last, clock = 0, 0.0, FileClock(self.fps)
        while (picture := self._read()) is not None:
            image, stamp, arrived = picture
            last = clock.time(stamp)
            self._size.see(image)
            yield Frame(image, index, last, arrived)
            index += 1
        if self._closed:
            return
        if index == 0:
            raise InputError(f"No frame of video '{self._path}' can be decoded; copy it again, or convert it to MP4.")
        if breaks_off(self.count, self.fps, index, last):
            raise InputError(
                f"The video '{self._path}' breaks off after {index} of {self.count} frames; what could be read was used: copy it again."
            )

    def _read(self) -> tuple[NDArray[np.uint8], float, float] | None:
        import cv2

        with self._guard:
            if self._closed:
                return None
            ok, image = self._capture.read()
            if self._closed:  # close() did not wait for this read
                self._capture.release()
            if self._closed or not ok:
                return None
            return cast("NDArray[np.uint8]", image), self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, time.monotonic()

    def close(self) -> None:
        """Releases the file, now or when the frame that is being read is there: a file on a network may let wait for it."""
        self._closed = True
        if self._guard.acquire(timeout=_CLOSING):
            try:
                self._capture.release()
            finally:
                self._guard.release()


class CaptureFeed:
    """An open ``cv2.VideoCapture`` as a feed: a camera, or a stream that FFmpeg reads.

    Args:
        capture: open.
        live: see ``Feed``.
        misses: reads in a row that may fail before it counts as lost.
        notes: see ``Feed``.
    """

    def __init__(self, capture: cv2.VideoCapture, *, live: bool, misses: int = 0, notes: tuple[Event, ...] = ()) -> None:
        import cv2

        self._capture, self._misses = capture, misses
        self.fps, self.live, self.notes = plausible_fps(capture.get(cv2.CAP_PROP_FPS)), live, notes
        self.count = None if live else frame_count(capture)
        self._frames, self._clock, self._failed = 0, FileClock(self.fps), 0
        self._last = 0.0

    def read(self) -> Picture | None:
        import cv2

        try:
            ok, image = self._capture.read()
        except cv2.error:
            ok, image = False, None
        arrived = time.monotonic()
        if not ok or image is None:
            return self._missed(arrived)
        self._failed = 0
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self._frames += 1
        self._last = self._clock.time(stamp)
        return Picture(cast("NDArray[np.uint8]", image), arrived, stamp if stamp > 0 or self._frames == 1 else None)

    def _missed(self, arrived: float) -> Picture | None:
        self._failed += 1
        if self._failed <= self._misses:
            return Picture(None, arrived)
        if self.live:
            raise BrokenError("")
        if breaks_off(self.count, self.fps, self._frames, self._last):
            raise BrokenError(f"of {self.count} the rest is missing")
        return None

    def interrupt(self) -> None:
        """OpenCV knows no way; its time-outs end the read."""

    def close(self) -> None:
        self._capture.release()


def open_camera(name: str, options: Mapping[str, str]) -> CaptureFeed:
    """A camera by number or device file, through Video4Linux on Linux.

    Args:
        name: such as 0 or /dev/video0.
        options: width, height, fps and format as asked for; others are ignored. The camera takes the nearest it has.

    Raises:
        BrokenError: it cannot be opened.
    """
    import cv2

    absent = BrokenError("", _CAMERA_GONE)
    if not is_utf8(name):
        raise absent
    try:
        if name.isdecimal():
            capture = cv2.VideoCapture(int(name))
        else:
            capture = cv2.VideoCapture(name, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    except (cv2.error, ValueError):  # a number too large for OpenCV, or even for Python
        raise absent from None
    if not capture.isOpened():
        capture.release()
        raise absent
    # The format first: it decides which sizes there are, and these which rates.
    if "format" in options:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options["format"]))
    for key, prop in (("width", cv2.CAP_PROP_FRAME_WIDTH), ("height", cv2.CAP_PROP_FRAME_HEIGHT), ("fps", cv2.CAP_PROP_FPS)):
        if key in options:
            capture.set(prop, float(options[key]))
    return CaptureFeed(capture, live=True, misses=_MISSES, notes=_other_size(name, capture, options))


def _other_size(name: str, capture: cv2.VideoCapture, options: Mapping[str, str]) -> tuple[Event, ...]:
    import cv2

    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    asked = int(options.get("width", size[0])), int(options.get("height", size[1]))
    if asked == size:
        return ()
    return (Event("resized", f"Camera '{name}' gives {size[0]}x{size[1]} pixels where {asked[0]}x{asked[1]} were asked for."),)


def check_video(path: str) -> None:
    """Refuses what can be no video file before OpenCV, which tells no reasons, is asked.

    Raises:
        InputError: it is missing, unreadable or empty, or OpenCV cannot open its name.
    """
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


def frame_count(capture: cv2.VideoCapture) -> int | None:
    """Frames that the container states, or None."""
    import cv2

    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and 0 < count < 2**31 else None
