"""The capture side of a pipeline: a thread that reads one source after another into a bounded queue."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import TYPE_CHECKING

from keyposs_trt.errors import KeypossError
from keyposs_trt.video.lines import ClosedError, Line
from keyposs_trt.video.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyposs_trt.video.contract import Event, Frame, Frames, Report, Source
    from keyposs_trt.video.finders import Finder
    from keyposs_trt.video.statistics import StreamStatistics

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Stream:
    """A source while it is read.

    Attributes:
        source, number: where the frames are from, and its number among the sources of the pipeline.
        frames: the open source.
        finder: finds its faces.
        statistics: its counters.
        summary: what was found so far.
    """

    source: Source
    number: int
    frames: Frames
    finder: Finder
    statistics: StreamStatistics
    summary: Summary


@dataclass(frozen=True)
class End:
    """No more frames of a stream come.

    Attributes:
        stream: which; None where the source could not even be opened.
        summary: of that source.
    """

    stream: Stream | None
    summary: Summary


Item = tuple[Stream, "Frame"] | End


@dataclass
class Lane:
    """A thread that reads sources, one after the other, into ``frames``.

    Attributes:
        frames: what was read; the newest frame wins where the sources are live, so that nothing lags.
        next_source: gives the next source with its number, or None.
        opened: opens a source as a stream.
        now: the stream being read, or None.
    """

    frames: Line[Item]
    next_source: Callable[[], tuple[int, Source] | None]
    opened: Callable[[int, Source], Stream]
    now: Stream | None = None
    _stopping: bool = False
    _guard: Lock = field(default_factory=Lock)
    thread: Thread | None = None

    def start(self) -> None:
        """Begins to read."""
        self.thread = Thread(target=self._read_all, name="capture", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Ends the source being read, and opens no other; the thread ends soon."""
        with self._guard:
            self._stopping = True
            now = self.now
        self.frames.close()
        if now is not None:
            now.frames.close()

    def end_of(self, stream: Stream) -> None:
        """Ends a stream early, such as one whose results nobody can take; the lane goes on with the next source."""
        with self._guard:
            now = self.now
        if now is stream:
            stream.frames.close()

    def _read_all(self) -> None:
        try:
            with suppress(ClosedError):
                while not self._stopping and (next_source := self.next_source()) is not None:
                    self._read(*next_source)
        finally:
            self.frames.close()  # whatever happened, or the core would wait for more

    def _read(self, number: int, source: Source) -> None:
        summary = Summary(source)
        stream = None
        try:
            stream = self.opened(number, source)
            summary = stream.summary
            with self._guard:
                self.now = stream
                stopping = self._stopping
            if not stopping:
                self._pass_on(stream)
        except ClosedError:
            raise
        except KeypossError as e:
            summary.error = e
        except Exception as e:  # noqa: BLE001 (a thread has nobody above it who would hear of it)
            _log.debug("a source failed", exc_info=e)
            summary.error = e
        finally:
            with self._guard:
                self.now = None
            if stream is not None:
                self._close(stream)
        self.frames.put_last(End(stream, summary))

    def _close(self, stream: Stream) -> None:
        """Closes a source; one that cannot even be closed has an error more, and does not keep the next one from its turn."""
        try:
            stream.frames.close()
        except Exception as e:  # noqa: BLE001 (a source of the user's may raise anything)
            _log.debug("a source could not be closed", exc_info=e)
            stream.summary.error = stream.summary.error or e
        if self._stopping:  # no End of it will pass
            stream.statistics.state("ended")

    def _pass_on(self, stream: Stream) -> None:
        statistics, line = stream.statistics, self.frames
        before = time.perf_counter()
        for frame in stream.frames:
            if self._stopping:
                return
            statistics.time("capture", time.perf_counter() - before)
            statistics.add("frames_in")
            if dropped := line.put((stream, frame), newest_wins=stream.frames.live):
                statistics.add("frames_dropped", dropped)
                stream.summary.dropped += dropped
            statistics.queue("frames", len(line), line.size)
            before = time.perf_counter()


def events_to(statistics: StreamStatistics, source: Source, report: Callable[[Source, Event], object]) -> Report:
    """Counts the events of a source, and passes them on with it."""

    def take(event: Event) -> None:
        if event.kind == "lost":
            statistics.state("lost")
        elif event.kind == "resumed":
            statistics.state("running")
            statistics.add("reconnects")
            statistics.add("gaps_seconds", event.seconds)
        elif event.kind == "corrupt":
            statistics.add("corrupt_frames", event.count)
        try:
            report(source, event)
        except Exception:  # noqa: BLE001 (a callback of the user's may raise anything; the stream goes on)
            _log.exception("what happened to '%s' could not be told", source.name)

    return take
