"""The output side of a pipeline: a thread a lane that draws, and hands results to the sinks of their stream."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING

from keyposs_trt.drawing import draw_landmarks
from keyposs_trt.video.contract import FrameResult
from keyposs_trt.video.lane import End, Stream
from keyposs_trt.video.lines import ClosedError, Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from keyposs_trt.landmarks import Landmarks
    from keyposs_trt.video.contract import Frame, Frames, Sink, Source
    from keyposs_trt.video.summary import Summary

    SinkFactory = Callable[[Source, int, Frames], Sequence[Sink]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the core found in a frame."""

    stream: Stream
    frame: Frame
    faces: Sequence[Landmarks]
    error: str | None


Parcel = Found | End


@dataclass
class Delivery:
    """A thread that takes what was found in the sources of one lane, and writes it.

    Attributes:
        results: what was found; the core leaves a live stream's frames alone while this is full.
        sinks_of: opens the sinks of a source.
        scheme: name of the landmark scheme.
        give_up: called with a stream whose results nobody takes any more.
        ended: called with the summary of each source, when its files are closed.
        now: the source whose sinks are open.
    """

    results: Line[Parcel]
    sinks_of: SinkFactory
    scheme: str
    give_up: Callable[[Stream], object]
    ended: Callable[[Summary], object]
    failed: Callable[[BaseException], object]
    thread: Thread | None = None
    now: Source | None = None

    def start(self) -> None:
        """Begins to take results."""
        self.thread = Thread(target=self._run, name="delivery", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        outlets: _Outlets | None = None
        try:
            with suppress(ClosedError):
                while True:
                    parcel = self.results.take()
                    if isinstance(parcel, Found):
                        if outlets is None:
                            self.now = parcel.stream.source
                            outlets = _Outlets.of(parcel.stream, self.sinks_of)
                        self._deliver(parcel, outlets)
                    else:
                        if outlets is not None:
                            outlets.close(parcel.summary)
                        outlets = self.now = None
                        self._end(parcel)
            if outlets is not None:  # stopped in the middle: what was finished is kept
                outlets.summary.stopped = True
                outlets.close(outlets.summary)
                self.ended(outlets.summary)
        except BaseException as e:  # noqa: BLE001 (handed to the thread that waits for the end)
            if outlets is not None:
                outlets.close(outlets.summary)
            self.failed(e)
        finally:
            self.results.close(discard=True)  # or the core would wait for room

    def _deliver(self, found: Found, outlets: _Outlets) -> None:
        stream, statistics = found.stream, found.stream.statistics
        stream.summary.count(found.frame, found.faces, found.error)
        result = FrameResult(stream.source, stream.number, found.frame, found.faces, self.scheme, found.error)
        outlets.write(result)
        statistics.add("frames_out")
        if found.faces:
            statistics.add("faces", len(found.faces))
        if found.error is not None:
            statistics.add("frames_failed")
        statistics.time("latency", time.monotonic() - found.frame.captured)
        if outlets.all_failed:
            self.give_up(stream)

    def _end(self, end: End) -> None:
        if end.stream is not None:
            end.stream.statistics.state("ended" if end.summary.error is None else "failed")
        self.ended(end.summary)


class _Outlets:
    """The open sinks of one stream. One that fails is closed, and the others go on."""

    def __init__(self, stream: Stream) -> None:
        self.summary = stream.summary
        self._statistics = stream.statistics
        self._live = stream.frames.live
        self._sinks: list[Sink] = []
        self._had = 0

    @classmethod
    def of(cls, stream: Stream, sinks_of: SinkFactory) -> _Outlets:
        """Opens the sinks of a stream."""
        outlets = cls(stream)
        try:
            sinks = list(sinks_of(stream.source, stream.number, stream.frames))
        except Exception as e:  # noqa: BLE001 (a sink of the user's may raise anything)
            outlets._had = 1
            outlets._failed(e)
            return outlets
        for sink in sinks:
            outlets._had += 1
            try:
                outlets._sinks.append(sink.__enter__())
            except Exception as e:  # noqa: BLE001
                outlets._failed(e)
        return outlets

    @property
    def all_failed(self) -> bool:
        """Whether there were sinks, and none is left."""
        return self._had > 0 and not self._sinks

    def write(self, result: FrameResult) -> None:
        """Hands a result to every sink."""
        drawn = self._drawn(result)
        start = time.perf_counter()
        for sink in list(self._sinks):
            try:
                sink.write(result, drawn if sink.draws else None)
            except BrokenPipeError:  # the reader of standard output has seen enough: the whole run is over
                raise
            except Exception as e:  # noqa: BLE001
                self._sinks.remove(sink)
                self._failed(e)
                self._leave(sink, e)
        self._statistics.time("write", time.perf_counter() - start)

    def _drawn(self, result: FrameResult) -> NDArray | None:
        if not any(getattr(sink, "draws", False) for sink in self._sinks):  # one that lacks it fails in write
            return None
        start = time.perf_counter()
        try:
            drawn = draw_landmarks(result.frame.image, result.faces)
        except Exception as e:  # noqa: BLE001 (one picture goes out without its faces)
            self._failed(e)
            drawn = result.frame.image
        self._statistics.time("draw", time.perf_counter() - start)
        return drawn

    def close(self, summary: Summary) -> None:
        """Finishes every sink; with the error that ended the source, where one did."""
        while self._sinks:
            self._leave(self._sinks.pop(), summary.error)

    def _leave(self, sink: Sink, error: Exception | None) -> None:
        try:
            sink.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except Exception as e:  # noqa: BLE001
            if e is not error:
                self._failed(e)

    def _failed(self, error: Exception) -> None:
        if str(error) not in map(str, self.summary.sink_errors):
            self.summary.sink_errors.append(error)
        self._statistics.add("sink_errors")
        # Of a file the summary tells it soon; a live stream may go on for weeks.
        _log.log(logging.WARNING if self._live else logging.DEBUG, "%s: %s", self.summary.source.name, error)
        _log.debug("a sink failed", exc_info=error)
