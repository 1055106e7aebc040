"""A video file that is whole, or kept as far as it got."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from keyposs_trt.errors import OutputError
from keyposs_trt.files import is_utf8, replaced_by, temporary_beside
from keyposs_trt.video.feeds import DEFAULT_FPS
from keyposs_trt.video.room import Room

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import cv2
    import numpy as np
    from numpy.typing import NDArray

CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}

_MOST_TICKS = 65535  # a second


def writable_fps(fps: float) -> float:
    """The frame rate a file can hold.

    MPEG-4 counts time in at most 65535 ticks a second, and OpenCV makes the ticks from the decimals of the rate: of 90.123
    frames a second it would make 90123 ticks, and fail.
    """
    if not (math.isfinite(fps) and 0.01 <= fps <= 1000):
        return DEFAULT_FPS
    return next(r for d in (3, 2, 1, 0) if (r := round(float(fps), d)) * 10**d <= _MOST_TICKS)


class VideoWriter:
    """Writes a video; a context manager.

    The file is written aside and takes its name at the end. When the body raises, or the disk is full, it is finished with the frames
    written so far, and plays; no file is left if there are none.

    Args:
        path: the file; its suffix, one of ``CODECS``, chooses container and codec. Sound is not carried over.
        fps: frames a second; rounded a little where the codec cannot tell it exactly, and ``DEFAULT_FPS`` where it makes no sense.

    Attributes:
        fps: as it stands in the file.
        frames: written so far.
        kept: whether the file has got its name.

    Raises:
        OutputError: the file cannot be written, or a folder, FIFO or device is there.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = writable_fps(fps)
        self.frames = 0
        self.kept = False
        if not is_utf8(path):
            raise OutputError(f"Cannot write video '{path}': OpenCV writes to names in UTF-8 only; give another name.")
        self._final = replaced_by(path)
        self._temporary = temporary_beside(self._final.parent / path.name)
        self._writer: cv2.VideoWriter | None = None
        self._room: Room | None = None
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, image: NDArray[np.uint8]) -> None:
        """Appends a frame, [H, W, 3] uint8 BGR; the first one sets the size, later ones are scaled to it."""
        import cv2

        if self._writer is None or self._room is None:
            self._writer = self._open(image)
            self._room = Room(self._temporary, self.path, self._size)
        if self.frames % max(1, round(self.fps)) == 0:
            self._room.check(self.frames)
        if image.shape[1::-1] != self._size:
            image = cast("NDArray[np.uint8]", cv2.resize(image, self._size))
        if cast("object", self._writer.write(image)) is False:  # None before OpenCV 5
            raise OutputError(
                f"Frame {self.frames} of video '{self.path}' could not be written on; check that there is room left on the disk."
            )
        self.frames += 1

    def _open(self, image: NDArray[np.uint8]) -> cv2.VideoWriter:
        import cv2

        height, width = image.shape[:2]
        self._size = (width, height)
        codec = CODECS[self.path.suffix.lower()]
        writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*codec), self.fps, self._size)
        if not writer.isOpened():
            raise OutputError(
                f"Cannot write video '{self.path}' of {width}x{height} pixels; check the folder, or choose a name that ends in .avi."
            )
        return writer

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.release()
            frames, plays = self._held() if self.frames else (0, False)
            if plays:
                self._temporary.replace(self._final)
                self.kept = True
            if frames < self.frames - 1 and not isinstance(error, OutputError):
                kept = "what there is of it plays" if plays else "nothing of it plays"
                raise OutputError(f"Video '{self.path}' could not be written whole, {kept}; check that there is room left on the disk.")
        except OSError as e:
            raise OutputError(f"Cannot write '{self.path}': {e.strerror or e}; choose a folder you may write to.") from e
        finally:
            self._temporary.unlink(missing_ok=True)

    def _held(self) -> tuple[int, bool]:
        """The number of frames the file says it holds, and whether it plays: OpenCV does not always tell of failed writes."""
        import cv2

        capture = cv2.VideoCapture(str(self._temporary))
        try:
            if not capture.isOpened():
                return 0, False
            return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), bool(capture.read()[0])
        finally:
            capture.release()
