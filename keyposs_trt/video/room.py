"""Whether a file that somebody else writes still gets what is written to it."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from keyposs_trt.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

RESERVE = 4 << 20  # bytes that are left free: FFmpeg's buffers, and the index that makes a video playable

_INDEX = 64  # bytes a frame, of the index
BUFFER = 256 << 10  # bytes that FFmpeg holds back at most before it writes


class Room:
    """Watches a video file while it grows, because OpenCV does not tell of failed writes before its version 5.

    A file that was cut off by a full disk lacks its index and does not play, so the disk must be found full before it is.

    Args:
        path: the file as it is written.
        name: what the sentences call it.
        size: width and height of its frames.
    """

    def __init__(self, path: Path, name: Path, size: tuple[int, int]) -> None:
        self._path = path
        self._name = name
        # The least a coded frame can have: a bit for each block of 16 x 16 pixels.
        self._least = max(1.0, size[0] * size[1] / 256 / 8)
        self._bytes = 0
        self._grew_at = 0

    def check(self, frames: int) -> None:
        """Looks after the file, which was given ``frames`` frames so far.

        Raises:
            OutputError: there is no room left, or the file does not grow any more.
        """
        try:
            size = self._path.stat().st_size
            disk = os.statvfs(self._path.parent)
        except OSError as e:
            raise OutputError(f"Video '{self._name}' has gone while it was written: {e.strerror or e}; is its disk still there?") from e
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        room, remedy = disk.f_bavail * disk.f_frsize, "make room on its disk"
        if most != resource.RLIM_INFINITY and most - size < room:
            room, remedy = most - size, "raise the limit of file size (ulimit -f), or write segments"
        if room < RESERVE + _INDEX * frames + 2 * (size - self._bytes):
            kept = f"it ends after {frames} frames, and plays" if frames else "nothing was written"
            raise OutputError(f"No room is left for video '{self._name}': {kept}; {remedy}.")
        if size > self._bytes:
            self._bytes, self._grew_at = size, frames
        elif (frames - self._grew_at) * self._least > 2 * BUFFER:
            raise OutputError(f"Video '{self._name}' does not grow any more: check its disk, and whether you may use more of it.")
