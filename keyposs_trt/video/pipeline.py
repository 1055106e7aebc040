"""Videos, cameras and streams through a landmarker into sinks: captured, worked on and written side by side.

Each source is read by a thread of its own (finite sources share a few of them), and its results are written by another. Between
them runs one core: it takes the oldest frame of every stream that has one, so that no stream waits for another, and sends
all their faces through the network together. All queues are short: a file waits for the core, and of a live source the newest
frame wins.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Condition, Event, Lock, Thread, current_thread
from typing import TYPE_CHECKING

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.landmarker import Landmarker
from keyposs_trt.video.collecting import Collector
from keyposs_trt.video.core import Core
from keyposs_trt.video.delivery import Delivery, Parcel
from keyposs_trt.video.finders import Finder, StillFinder, WholeFrameFinder
from keyposs_trt.video.lane import Item, Lane, Stream, events_to
from keyposs_trt.video.lines import Line
from keyposs_trt.video.plan import feeds_of, no_sinks, sink_factory, sources_of
from keyposs_trt.video.rounds import Rounds
from keyposs_trt.video.smoothing import Smoother
from keyposs_trt.video.sources import open_source
from keyposs_trt.video.statistics import Statistics, StreamStatistics
from keyposs_trt.video.summary import Summary
from keyposs_trt.video.tracking import FaceTracker

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from os import PathLike
    from types import TracebackType

    from keyposs_trt.video import contract
    from keyposs_trt.video.contract import FrameResult, Frames, Sink, Source
    from keyposs_trt.video.delivery import SinkFactory

QUEUE = 4  # frames of a file that wait at most, on each side of the core
AT_ONCE = 4  # finite sources that are open at a time
_TICK = 0.03  # seconds between two looks of the main thread
_PATIENCE = 20.0  # seconds for a thread to end; one that hangs in a driver or in a pipe nobody reads is left behind

_log = logging.getLogger(__name__)


class VideoPipeline:
    """Finds the faces in the frames of one or more sources.

        VideoPipeline("clip.mp4", landmarker, JsonSink(...)).run()

        with VideoPipeline(["rtsp://camera-1/", "rtsp://camera-2/"]) as pipeline:
            for result in pipeline:
                print(result.source.name, result.frame.time, len(result.faces))

    ``async for`` works the same. A pipeline runs once. Nothing is kept in memory but the frames being worked on.

    Args:
        source: a path or address, a ``Source``, or several of them; folders and patterns stand for what is in them.
        landmarker: finds the landmarks; stays open. None opens the default one for this run.
        sink: takes the results: a sink, for one source; or a function of a source, its number and the open frames that gives the
            sinks of that source. None for none, and for iterating.
        detect: False takes every whole frame for a face.
        max_faces: at most so many faces a frame; None for all.
        detect_every: in video, the detector looks for new faces at least on every n-th frame.
        smooth: calm the landmarks of followed faces; None does so for live sources only.
        statistics: counts what happens; a new one where None.
        on_event: called by the threads that read, with what happened to a source that goes on.
        on_end: called, by the threads that write, with the summary of each source when it has ended and its files are closed.
        at_once: finite sources that are worked on side by side.

    Attributes:
        statistics: see above.
        summaries: of the sources that have ended so far.

    Raises:
        UsageError: an argument that makes no sense.
        InputError: a source of that name is not there.
    """

    def __init__(
        self,
        source: str | PathLike[str] | Source | Sequence[str | PathLike[str] | Source],
        landmarker: Landmarker | None = None,
        sink: Sink | SinkFactory | None = None,
        *,
        detect: bool = True,
        max_faces: int | None = None,
        detect_every: int = 15,
        smooth: bool | None = None,
        statistics: Statistics | None = None,
        on_event: Callable[[Source, contract.Event], object] | None = None,
        on_end: Callable[[Summary], object] | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        if at_once < 1 or detect_every < 1 or (max_faces is not None and max_faces < 1):
            raise UsageError("at_once, detect_every and max_faces must be at least 1.")
        self.statistics = statistics or Statistics()
        self.summaries: list[Summary] = []
        self._sources = sources_of(source)
        self._landmarker = landmarker
        self._owned: Landmarker | None = None
        self._sinks_of = sink_factory(sink, len(self._sources))
        self._detect = detect
        self._max_faces, self._detect_every, self._smooth = max_faces, detect_every, smooth
        self._on_event = on_event or (lambda source, event: _log.warning("%s: %s", source.name, event.text))
        self._on_end = on_end
        self._at_once = at_once
        self._lock = Lock()
        self._work = Condition(self._lock)  # the core waits for it
        self._pairs: list[tuple[Lane, Delivery]] = []
        self._started = False
        self._collector: Collector | None = None
        self._stopping = False
        self._patient_until = math.inf
        self._done = Event()
        self._failure: BaseException | None = None
        self._figures: dict[int | str, StreamStatistics] = {}
        self._rounds: Rounds | None = None
        self._core: Thread | None = None  # ends after all deliveries

    def run(self, tick: Callable[[], object] = lambda: None) -> list[Summary]:
        """Works through all sources, until they end or ``stop`` is called.

        Args:
            tick: called by this thread a few times a second.

        Returns:
            A summary of each source, in the order in which they ended; errors of sources and sinks stand there.

        Raises:
            KeypossError: the landmarker cannot be opened, or has no detector though one is needed.
        """
        self._claim()
        with self:
            self._start(self._sinks_of)
            try:
                while not self._done.wait(_TICK):
                    tick()
                    if time.monotonic() > self._patient_until:
                        break
            finally:
                self.close()
                if not self._done.is_set():
                    self._tell_the_rest()
            tick()
            self._reraise()
        return self.summaries

    def __iter__(self) -> Iterator[FrameResult]:
        """The results of all sources as they come; each source's are in order. Leaving the loop stops the pipeline.

        Raises:
            InputError: after the last result, that the only source could not be read to its end. Of several sources, each has its
                error in its summary, and in the log.
        """
        collector = self._start_collecting()
        try:
            while (result := collector.next()) is not None:
                yield result
        finally:
            self.close()
        self._reraise()
        self._raise_error_of_the_source()

    async def __aiter__(self) -> AsyncIterator[FrameResult]:
        """As iterating, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        waits = ThreadPoolExecutor(1, "results")  # of its own: silent cameras would use up the threads that all of asyncio shares
        try:
            collector = await loop.run_in_executor(waits, self._start_collecting)
            while (result := await loop.run_in_executor(waits, collector.next)) is not None:
                yield result
        finally:
            self.stop()
            if self._collector is not None:  # or the thread that waits for a result could not close
                self._collector.leave()
            await loop.run_in_executor(waits, self.close)
            waits.shutdown(wait=False)
        self._reraise()
        self._raise_error_of_the_source()

    @property
    def running(self) -> list[Stream]:
        """The streams that are being read now."""
        return [stream for lane, _ in self._pairs if (stream := lane.now) is not None]

    @property
    def busy_seconds(self) -> float:
        """How long the core has been at the frames it works on now; 0 while it waits for some."""
        return 0.0 if self._rounds is None else self._rounds.busy_seconds

    def stop(self) -> None:
        """Ends all sources; what is being worked on is finished and written. Any thread may call it, at any time."""
        self._patient_until = min(self._patient_until, time.monotonic() + _PATIENCE)
        self._stopping = True
        for lane, _ in list(self._pairs):
            lane.stop()
        with self._lock:
            self._work.notify_all()

    def close(self) -> None:
        """Stops, waits until every file is closed, and frees what this pipeline opened. Twice does no harm."""
        self.stop()
        if self._collector is not None:  # nobody takes what is left of an iteration
            self._collector.leave()
        for thread in (self._core, *(lane.thread for lane, _ in self._pairs)):
            if thread is not None and thread.ident is not None and thread is not current_thread():
                thread.join(max(0.0, self._patient_until - time.monotonic()))
        if self._owned is not None:
            self._owned.close()
            self._owned = None

    def __enter__(self) -> VideoPipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _claim(self) -> None:
        with self._lock:
            if self._started:
                raise UsageError("A VideoPipeline runs once; make a new one to run again.")
            self._started = True

    def _start(self, sinks_of: SinkFactory) -> None:
        """Opens the landmarker and starts all threads."""
        landmarker = self._landmarker
        if landmarker is None:
            landmarker = self._owned = Landmarker.load(detector="blazeface" if self._detect else None)
        if self._detect and landmarker.detector is None:
            raise UsageError("This landmarker has no face detector; load it with detector='blazeface', or give detect=False.")
        self._score = landmarker.spec.lost_score
        self._pairs = [self._pair(feed, sinks_of, landmarker.scheme.name) for feed in feeds_of(self._sources, self._at_once)]
        # In the order of the sources, not in the one in which they happen to open: the second of one name stays the second.
        self._figures = {n: self.statistics.stream(s.name) for n, s in enumerate(self._sources) if s.kind not in ("image", "video")}
        if self._stopping:  # stopped before, or while the landmarker was opened: the lanes there are now end at once
            self._patient_until = math.inf
            self.stop()
        try:
            for lane, delivery in self._pairs:
                delivery.start()
                lane.start()
            self._rounds = Rounds(self._pairs, self._work)
            core = Core(landmarker, self._rounds.hand_over)
            self._core = Thread(target=self._run_core, args=(core, self._rounds), name="core", daemon=True)
            self._core.start()
        except BaseException:
            for _, delivery in self._pairs:  # no core will
                delivery.results.close()
            raise

    def _start_collecting(self) -> Collector:
        if self._sinks_of is not no_sinks:
            raise UsageError("A pipeline with a sink cannot be iterated; call run(), or leave out the sink.")
        self._claim()
        collector = self._collector = Collector(QUEUE)
        try:
            self._start(lambda *_: [collector])
        except BaseException:
            self.close()
            raise
        return collector

    def _pair(self, feed: deque[tuple[int, Source]], sinks_of: SinkFactory, scheme: str) -> tuple[Lane, Delivery]:
        def next_source() -> tuple[int, Source] | None:
            with suppress(IndexError):  # several lanes may share a feed
                return feed.popleft()
            return None

        frames: Line[Item] = Line(QUEUE, self._lock, filled=self._work)
        results: Line[Parcel] = Line(QUEUE, self._lock, emptied=self._work)
        lane = Lane(frames, next_source, self._open)
        return lane, Delivery(results, sinks_of, scheme, lane.end_of, self._ended, self._failed)

    def _open(self, number: int, source: Source) -> Stream:
        statistics = self._statistics_of(number, source)
        try:
            frames = open_source(source, events_to(statistics, source, self._on_event))
        except BaseException:
            statistics.state("failed")
            raise
        statistics.state("running")
        return Stream(source, number, frames, self._finder(source, frames), statistics, Summary(source))

    def _statistics_of(self, number: int, source: Source) -> StreamStatistics:
        """Those of the source; pictures, which may be thousands, share theirs."""
        picture = source.kind == "image"
        known = self._figures.get("images" if picture else number)
        if known is None and picture:
            known = self.statistics.stream("images", sum(s.kind == "image" for s in self._sources))
            self._figures["images"] = known
        return known or self.statistics.stream(source.name)

    def _finder(self, source: Source, frames: Frames) -> Finder:
        if not self._detect:
            return WholeFrameFinder()
        if source.kind == "image":
            return StillFinder(self._max_faces)
        smooth = frames.live if self._smooth is None else self._smooth
        smoother = Smoother() if smooth else None
        return FaceTracker(max_faces=self._max_faces, detect_every=self._detect_every, lost_score=self._score, smoother=smoother)

    def _run_core(self, core: Core, rounds: Rounds) -> None:
        """The core's thread, until every source has ended and its results are written."""
        try:
            rounds.run(core)
        except BaseException as e:  # noqa: BLE001 (handed to the thread that waits for the end)
            self._failed(e)
        finally:
            for _, delivery in self._pairs:
                delivery.results.close()
            for _, delivery in self._pairs:
                if delivery.thread is not None:
                    delivery.thread.join(None if not self._stopping else _PATIENCE)
            for figures in self._figures.values():
                figures.end()
            try:
                self._tell_the_rest()
            except Exception as e:  # noqa: BLE001 (what on_end raises must not keep anybody waiting)
                self._failure = self._failure or e
            if self._collector is not None:
                self._collector.end()
            self._done.set()

    def _failed(self, error: BaseException) -> None:
        """An error that nobody but the caller of ``run`` can mend."""
        self._failure = self._failure or error
        self.stop()

    def _tell_the_rest(self) -> None:
        """A summary for each source that was stopped before its first result, or whose sinks hang."""
        if not self._stopping:
            return
        hang = [d.now for _, d in self._pairs if d.now is not None and d.thread is not None and d.thread.is_alive()]
        told = Counter(summary.source for summary in self.summaries)
        for source in (Counter(self._sources) - told).elements():
            error = None
            if source in hang:
                hang.remove(source)
                words = f"'{source.name}' did not end within {_PATIENCE:.0f} s: a driver or an output hangs; look at what was written."
                error = OutputError(words)
            self._ended(Summary(source, stopped=True, error=error))

    def _ended(self, summary: Summary) -> None:
        with self._lock:
            self.summaries.append(summary)
        if self._on_end is not None:
            self._on_end(summary)
        elif summary.error is not None:
            _log.error("%s: %s", summary.source.name, summary.error)

    def _raise_error_of_the_source(self) -> None:
        if len(self._sources) == 1 and self.summaries and self.summaries[0].error is not None:
            raise self.summaries[0].error

    def _reraise(self) -> None:
        if self._failure is not None:
            raise self._failure
