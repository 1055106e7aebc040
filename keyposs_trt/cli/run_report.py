"""What ``keyposs-trt run`` says while it runs and when a source has ended."""

from __future__ import annotations

import sys
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from keyposs_trt.cli.output import missing_package
from keyposs_trt.errors import KeypossError

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence
    from typing import TextIO

    from keyposs_trt.video.contract import Source
    from keyposs_trt.video.outputs import Outputs
    from keyposs_trt.video.pipeline import VideoPipeline
    from keyposs_trt.video.statistics import Statistics
    from keyposs_trt.video.summary import Summary

STUCK = 60.0  # seconds with the same frames after which the core is not alive any more, as far as a watchdog is concerned


class Say:
    """Lines for the user, written past a progress bar.

    Attributes:
        errors: how many were told.
    """

    def __init__(self, stream: TextIO, log: logging.Logger | None = None) -> None:
        """Says where.

        Args:
            stream: takes the lines about results.
            log: takes what else is said, so that each line of standard error is a record; None says it as it is.
        """
        self._stream = stream
        self._log = log
        self.errors = 0

    def __call__(self, line: object) -> None:
        """A line about a result."""
        from tqdm import tqdm

        tqdm.write(str(line), file=self._stream)
        self._stream.flush()

    def note(self, line: object) -> None:
        """A line about the run itself."""
        from tqdm import tqdm

        if self._log is not None:
            self._log.info("%s", line)
        else:
            tqdm.write(str(line), file=sys.stderr)

    def error(self, line: object) -> None:
        """A line about what went wrong: the exit code will be 1."""
        self.errors += 1
        if self._log is not None:
            self._log.error("%s", str(line).removeprefix("error: "))
        else:
            self.note(line)


class Report:
    """Tells of a run as it goes: progress bars on a terminal, a line for each source, figures every so often.

    Attributes:
        interrupted: whether the user ended it.
    """

    def __init__(self, say: Say, sources: Sequence[Source], outputs: Outputs, statistics: Statistics, every: float | None) -> None:
        self.interrupted = False
        self._say, self._sources, self._outputs, self._statistics = say, sources, outputs, statistics
        self._every = every
        self._next_line = time.monotonic() + (every or 0.0)
        self._ended: SimpleQueue[Summary] = SimpleQueue()
        self._numbers = {source: number for number, source in enumerate(sources)}
        self._told_ready = False
        self._lines = 0

    def ended(self, summary: Summary) -> None:
        """Takes the summary of a source that has ended; for the threads of the pipeline."""
        self._ended.put(summary)

    def watch(self, pipeline: VideoPipeline) -> None:
        """Runs the pipeline, and tells of it.

        Raises:
            BrokenPipeError: the reader of standard output has gone.
            KeypossError: see ``VideoPipeline.run``.
        """
        from keyposs_trt.video.notify import Notifier

        notifier = Notifier()
        with _Bars(self._sources) as bars:

            def tick() -> None:
                if not self._told_ready:  # the model is loaded, and all threads run
                    self._told_ready = True
                    notifier.ready()
                self._outputs.poll()
                if self._outputs.stop:
                    pipeline.stop()
                if pipeline.busy_seconds < STUCK:
                    notifier.alive()
                self._tell_ended(bars)
                bars.show(pipeline)
                self._tell_figures()

            try:
                pipeline.run(tick)
            except KeyboardInterrupt:
                self.interrupted = True
            finally:
                notifier.stopping()
                self._tell_ended(bars)
        if self.interrupted:
            self._say.error("interrupted; what was finished until then is kept.")

    def close(self, place: str | None) -> None:
        """The last lines, when all files are closed; ``place`` is the text of ``--json``."""
        records = self._outputs.records
        lines = self._lines if records is None else records.lines
        if place not in (None, "-") and lines:
            path, _, rotated = place.partition("?rotate=") if records is None else (records.target, "", "?rotate=" in place)
            aside = " and the files that were put aside beside it" if rotated and records is not None else ""
            self._say(f"{lines} JSON line{'s'[: lines > 1]} -> {path}{aside}")
        if self._every is not None:
            self._say.note(self._statistics.line())

    def _tell_ended(self, bars: _Bars) -> None:
        while True:
            try:
                summary = self._ended.get_nowait()
            except Empty:
                return
            bars.ended(summary)
            self._lines += summary.frames
            self._tell(summary)

    def _tell(self, summary: Summary) -> None:
        for error in {str(e): e for e in (*summary.sink_errors, summary.error) if e is not None}.values():
            self._say.error(f"error: {_sentence(error)}")
        if summary.failed:
            frames = "1 frame" if summary.failed == 1 else f"{summary.failed} frames"
            self._say.error(f"error: {frames} of '{summary.source.name}' could not be worked on; the last: {summary.frame_error}")
        if summary.frames:
            number = self._numbers.get(summary.source)
            written = "" if number is None else self._outputs.written(number)
            summary.outputs = [written] * bool(written)
            self._say(summary)

    def _tell_figures(self) -> None:
        if self._every is None or time.monotonic() < self._next_line:
            return
        self._next_line = max(self._next_line, time.monotonic() - self._every) + self._every  # after a pause, once
        self._say.note(self._statistics.line())
        streams = self._statistics.streams
        if len(streams) > 1:
            for stream in [s for s in streams if not s.over]:
                self._say.note(f"  {stream.line()}")


class _Bars:
    """Progress bars, where standard error is a terminal: of the frames of the sources being read, and of the sources."""

    def __init__(self, sources: Sequence[Source]) -> None:
        from tqdm import tqdm

        # disable=None: no bar where standard error is not a terminal.
        one = len(sources) == 1
        still = all(source.kind == "image" for source in sources)
        self._all = tqdm(total=len(sources), unit="source", leave=False, disable=True if one else None)
        self._one = tqdm(
            unit="frame", desc=sources[0].name.rpartition("/")[2] if one else "frames", leave=False, disable=True if still else None
        )
        self._summaries: dict[int, Summary] = {}  # by identity, so that a stream that has ended still counts

    def __enter__(self) -> _Bars:
        return self

    def show(self, pipeline: VideoPipeline) -> None:
        """Moves the bars to where the pipeline is."""
        if self._one.disable and self._all.disable:
            return
        running = pipeline.running
        self._summaries |= {id(stream.summary): stream.summary for stream in running}
        ended = self._done - sum(stream.summary.frames for stream in running)
        counts = [stream.frames.count for stream in running]
        self._one.total = None if None in counts else ended + sum(c for c in counts if c is not None)
        self._one.n = self._done
        self._one.refresh()

    @property
    def _done(self) -> int:
        return sum(summary.frames for summary in self._summaries.values())

    def ended(self, summary: Summary) -> None:
        """A source has ended."""
        self._summaries[id(summary)] = summary
        self._all.update()

    def __exit__(self, *_: object) -> None:
        self._one.close()
        self._all.close()


def _sentence(error: Exception) -> str:
    if isinstance(error, KeypossError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}; run again with --debug to see where."
