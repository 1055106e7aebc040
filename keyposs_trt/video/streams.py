"""Cameras and streams that live long: what is lost is connected again, and every trouble is told."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from threading import Event as Signal
from threading import Lock
from typing import TYPE_CHECKING

from keyposs_trt.errors import InputError
from keyposs_trt.video.clocks import FileClock, LiveClock
from keyposs_trt.video.connection import Connection
from keyposs_trt.video.contract import Event, Frame
from keyposs_trt.video.feeds import DEFAULT_FPS, BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import Report
    from keyposs_trt.video.feeds import Feed, Picture

SHORTEST, LONGEST = 0.5, 15.0  # seconds between two attempts to connect
_STEADY = 30.0  # seconds after which a connection counts as good, and the next loss starts from the shortest wait
_OPENING = 5.0  # seconds that opening may take beyond the time-out: a stream is looked at until its first key frame
_CLOSING = 0.8  # seconds that closing waits for the thread that reads

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Label:
    """What sentences call a source, and their remedies.

    Attributes:
        name: such as "Camera '0'".
        absent: remedy for one that cannot be opened.
        stopped: remedy for one that stops.
    """

    name: str
    absent: str
    stopped: str


@dataclass(frozen=True)
class Patience:
    """How long a source is waited for.

    Attributes:
        timeout: seconds without a frame after which it is lost.
        reconnect: connect again after a loss.
        wait: also wait for a source that is not there at first.
    """

    timeout: float = 5.0
    reconnect: bool = True
    wait: bool = False


class SizeWatch:
    """Reports pictures that change their size."""

    def __init__(self, name: str, report: Report) -> None:
        self._name, self._report = name, report
        self._size: tuple[int, ...] | None = None

    def see(self, image: NDArray[np.uint8]) -> None:
        """Compares a picture with the one before."""
        size = image.shape[:2]
        if self._size is not None and size != self._size:
            (h, w), (height, width) = self._size, size
            self._report(Event("resized", f"{self._name} changed from {w}x{h} to {width}x{height} pixels."))
        self._size = size


class StreamFrames:
    """The frames of a feed, and of those that follow when it breaks.

    Args:
        label: what sentences call it.
        connect: opens a feed.
        report: takes the events, in the thread that iterates.
        patience: how long to wait.

    Raises:
        InputError: it cannot be opened, unless ``patience.wait``; by the iteration, that it stopped, unless it is live and
            ``patience.reconnect``.
    """

    def __init__(self, label: Label, connect: Callable[[], Feed], report: Report, patience: Patience) -> None:
        self.fps, self.live = DEFAULT_FPS, True
        self.count: int | None = None
        self._label, self._connect, self._report, self._patience = label, connect, report, patience
        self._closed, self._guard = Signal(), Lock()
        self._connection: Connection | None = None
        self._last: Connection | None = None  # the one before
        self._index, self._delay = 0, SHORTEST
        self._lost_since: float | None = None
        self._connected_at = self._arrived = time.monotonic()
        self._live_clock, self._file_clock = LiveClock(), FileClock(self.fps)
        self._size = SizeWatch(label.name, report)
        if not patience.wait:
            try:
                self._open()
            except BrokenError as e:
                raise InputError(self._absent(e)) from None

    def __iter__(self) -> Iterator[Frame]:
        while not self._closed.is_set():
            if self._connection is None and not self._come_back():
                return
            try:
                picture = self._read()
            except BrokenError as e:
                self._lose(e)
                continue
            if picture is None:
                if self.live and not self._closed.is_set():
                    self._lose(BrokenError("it ended"))
                    continue
                self._check_end()
                return
            if picture.image is None:
                self._report(Event("corrupt", f"{self._label.name} sent a frame that cannot be decoded; it was left out."))
                continue
            yield self._frame(picture, picture.image)
            self._index += 1

    def close(self) -> None:
        """Ends the iteration, in whatever thread it runs, and the connection."""
        self._closed.set()
        with self._guard:
            connections = self._connection, self._last
            self._connection = self._last = None
        for connection in connections:  # the last one may still be about to end a child process
            if connection is not None:
                connection.end(_CLOSING)

    def _open(self) -> None:
        connection = Connection(self._connect)
        with self._guard:
            self._connection = connection
        if self._closed.is_set():  # between the look of the loop and the line above
            self.close()
            return
        try:
            feed = connection.opened(self._patience.timeout + _OPENING)
        except BaseException:
            self._drop(_CLOSING)  # who gets the error may end this process, and nothing shall outlive it
            raise
        if feed is None:
            return
        self.fps, self.live, self.count = feed.fps, feed.live, feed.count
        self._file_clock = FileClock(self.fps)
        self._connected_at = time.monotonic()
        self._live_clock.reconnected()
        for note in feed.notes:
            self._report(note)

    def _read(self) -> Picture | None:
        with self._guard:
            connection = self._connection
        return None if connection is None else connection.read(self._patience.timeout)

    def _frame(self, picture: Picture, image: NDArray[np.uint8]) -> Frame:
        if self._lost_since is not None:
            gap = picture.arrived - (self._arrived if self._index else self._lost_since)
            self._lost_since = None
            self._report(Event("resumed", f"{self._label.name} is back after {gap:.1f} s.", seconds=gap))
        self._arrived = picture.arrived
        self._size.see(image)
        return Frame(image, self._index, self._time(picture), picture.arrived)

    def _time(self, picture: Picture) -> float:
        if not self.live:
            return self._file_clock.time(picture.stamp)
        seconds, jump = self._live_clock.time(picture.stamp, picture.arrived)
        if jump is not None:
            way = "back" if jump < 0 else "ahead"
            self._report(
                Event("clock", f"The clock of {self._label.name} jumped {way} by {abs(jump):.1f} s; frames are timed by their arrival now.")
            )
        return seconds

    def _check_end(self) -> None:
        if self._index == 0 and not self._closed.is_set():
            raise InputError(f"{self._label.name} ended without a frame that can be decoded; {self._label.stopped}.")

    def _lose(self, error: BrokenError) -> None:
        self._drop(0.1)
        if self._closed.is_set():
            return
        reason = f": {error}" if str(error) else ""
        stopped = f"{self._label.name} stopped after {self._index} frame{'s'[: self._index != 1]}{reason}"
        if not (self.live and self._patience.reconnect):
            raise InputError(f"{stopped}; {error.remedy or self._label.stopped}.") from None
        if self._lost_since is None:
            self._lost_since = time.monotonic()
            self._report(Event("lost", f"{stopped}; connecting again."))
        if time.monotonic() - self._connected_at > _STEADY:
            self._delay = SHORTEST

    def _come_back(self) -> bool:
        """Connects again, however long that takes; False if this was closed first."""
        last = self._last
        first = self._index == 0 and self._lost_since is None  # waited for from the start: no pause before the first attempt
        while first or not self._closed.wait(self._pause()):
            if last is None or not last.alive:  # two at a time would fight over a camera
                try:
                    self._open()
                except BrokenError as e:
                    _log.debug("%s", self._absent(e))
                    if first:
                        self._lost_since = time.monotonic()
                        self._report(Event("lost", f"{self._absent(e)[:-1]}; waiting for it."))
                else:
                    return not self._closed.is_set()
                last = self._last
            first = False
        return False

    def _pause(self) -> float:
        """Seconds until the next attempt: twice as long each time, and never the same for many clients of one server."""
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST)
        return min(delay * random.uniform(0.75, 1.25), LONGEST)

    def _drop(self, patience: float) -> None:
        with self._guard:
            connection, self._connection = self._connection, None
            if connection is not None:
                self._last = connection
        if connection is not None:
            connection.end(patience)

    def _absent(self, error: BrokenError) -> str:
        reason = f": {error}" if str(error) else ""
        return f"{self._label.name} cannot be opened{reason}; {error.remedy or self._label.absent}."
