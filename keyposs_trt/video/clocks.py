"""Times of frames: by the time stamps of the source as long as these make sense, and always rising."""

from __future__ import annotations

import math

JUMP = 5.0  # seconds that a live source's clock may run ahead of ours between two frames
_STEP = 1e-3  # seconds between two frames at least


class FileClock:
    """Times of the frames of a file, which is read as fast as can be.

    Some containers carry no time stamps (0 or nonsense): then the frame rate tells the time.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._last = -1 / fps

    def time(self, stamp: float | None) -> float:
        """Seconds since the start, for a frame with this time stamp in seconds."""
        known = stamp is not None and math.isfinite(stamp) and stamp > self._last
        self._last = stamp if known and stamp is not None else self._last + 1 / self._fps
        return self._last


class LiveClock:
    """Times of the frames of a live source, through any number of connections.

    Within a connection the source's own time stamps tell the time, since they do not know the delays of the network. A connection
    whose stamps jump, backwards or ahead, is timed by arrival from then on; so is one without stamps. From connection to connection our
    clock tells the gap.
    """

    def __init__(self) -> None:
        self._start: float | None = None
        self._last = -_STEP
        self._trusted = True
        self._zero: float | None = None  # what to add to a stamp of this connection
        self._stamp = self._arrived = 0.0

    def reconnected(self) -> None:
        """The next frame is of another connection, whose stamps know nothing of the last one's."""
        self._trusted, self._zero = True, None

    def time(self, stamp: float | None, arrived: float) -> tuple[float, float | None]:
        """The time of a frame.

        Args:
            stamp: its time stamp, in seconds, or None.
            arrived: ``time.monotonic()`` when it came.

        Returns:
            Seconds since the first frame, and the seconds by which the clock of the source jumped if it has just done so.
        """
        if self._start is None:
            self._start = arrived
        elapsed, jump = arrived - self._start, None
        if stamp is None or not math.isfinite(stamp):
            self._trusted = False
        if self._trusted and stamp is not None:
            if self._zero is None:
                self._zero = elapsed - stamp
            else:
                step = stamp - self._stamp
                if step < 0 or step - (arrived - self._arrived) > JUMP:
                    self._trusted, jump = False, step
            self._stamp, self._arrived = stamp, arrived
        by_stamp = self._trusted and stamp is not None and self._zero is not None
        now = stamp + self._zero if by_stamp and stamp is not None and self._zero is not None else elapsed
        self._last = max(now, self._last + _STEP)
        return self._last, jump
