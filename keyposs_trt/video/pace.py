"""Time stamps of any kind on the even beat of a video file."""

from __future__ import annotations

SLACK = 0.75  # of a frame: time stamps that jitter by less are an even beat
MOST_LIVE = 10.0  # seconds
MOST_FILE = 600.0


class Pace:
    """Says how often each frame is written so that the time of the file follows the time stamps, to within a frame.

    A source of a constant rate gets each of its frames written once. Where frames come too late or are missing, the one before is
    repeated; where they come too fast, some are left out. A gap longer than 10 s in a live source, 10 minutes in a file, is not
    filled, for it was a loss of the stream or a wrong time stamp; nor does a clock that was set back stop the video.

    Args:
        fps: frames a second of the file.
        live: the source is.
    """

    def __init__(self, fps: float, live: bool) -> None:
        self._fps = fps
        self._most = MOST_LIVE if live else MOST_FILE
        self._written = 0
        self._origin = 0.0
        self._last: float | None = None

    def __call__(self, time: float) -> tuple[int, bool]:
        """How many times the frame before is repeated now, and whether the frame of this time stamp, in seconds, is written."""
        if self._last is None or not -1.0 <= time - self._last <= self._most:
            self._origin = time - self._written / self._fps
        self._last = time
        late = (time - self._origin) * self._fps - self._written
        if late <= -SLACK:
            return 0, False
        repeats = round(late) if late >= SLACK else 0
        self._written += repeats + 1
        return repeats, True
