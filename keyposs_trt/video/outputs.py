"""What ``-o``, ``--json`` and ``--show`` stand for, with one source or with several of all kinds."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import UsageError
from keyposs_trt.video.json_sinks import JsonFolder, JsonSink
from keyposs_trt.video.jsonl import STDOUT, JsonLines
from keyposs_trt.video.simple_sinks import ImageSink, NullSink
from keyposs_trt.video.sink_address import SinkSpec, one_of_each, parse_sink
from keyposs_trt.video.sinks import check_record_file, names_folder, plan_outputs, stem_of
from keyposs_trt.video.video_sink import VideoFileSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from keyposs_trt.video.contract import Frames, Sink, Source
    from keyposs_trt.video.window import WindowSink

NAME = "keyposs-trt"  # title of windows
_POLL = 0.03  # seconds


class Outputs:
    """The sinks of a run, as the command line names them; a context manager that holds what streams share.

        with Outputs(sources, ["out/", "preview:8080"], "all.jsonl") as outputs:
            VideoPipeline(sources, landmarker, outputs.sinks).run(outputs.poll)

    The page for browsers is left to the caller; see ``preview``.

    Args:
        sources: the sources, in the order of their numbers.
        pictures: the texts of ``-o``: a file or folder, ``window:``, ``preview:PORT``, ``null:``; at most one of a kind.
        records: the text of ``--json``: a file for all streams, ``-``, or a folder (it ends in ``/``, or is there) with a file for each.
        show: as ``window:``.

    Attributes:
        preview: the address a page for browsers is to listen at, or None.
        files: picture or video file of each source; None where none is wanted.
        records: the JSON lines that all streams share, or None.
        stop: whether the user wants the run to end, by a key or by closing a window.

    Raises:
        UsageError: a text makes no sense, or one file would be two things.
        OutputError: something cannot be written or shown.
    """

    def __init__(self, sources: Sequence[Source], pictures: Sequence[str] = (), records: str | None = None, show: bool = False) -> None:
        specs = {spec.kind: spec for spec in one_of_each(pictures)}
        if show:
            specs.setdefault("window", SinkSpec("window"))
        path = specs.get("path")
        if path and path.segment is not None and all(source.kind == "image" for source in sources):
            raise UsageError("segment is for videos; leave it out, for these sources are pictures.")
        self.preview = specs["preview"].target if "preview" in specs else None
        self.files: Sequence[Path | None] = plan_outputs(sources, path.target) if path else [None] * len(sources)
        self.records: JsonLines | None = None
        self.stop = False
        self._segment = path.segment if path else None
        self._null = "null" in specs
        self._folder: JsonFolder | None = None
        if records is not None:
            self._plan_records(parse_sink(records), sources)
        self._windows = _windows(sources, specs["window"].target) if "window" in specs else []
        self._written: dict[int, ImageSink | VideoFileSink] = {}
        self._stack = ExitStack()

    def _plan_records(self, spec: SinkSpec, sources: Sequence[Source]) -> None:
        live = any(source.kind not in ("image", "video") for source in sources)
        if spec.kind not in ("path", "stdout") or spec.segment is not None:
            raise UsageError("JSON lines go to a file, a folder or - for standard output; they take the option rotate=BYTES.")
        if spec.rotate is not None and not live:
            raise UsageError("rotate is for cameras and streams; leave it out, for these sources end.")
        if spec.kind == "path" and names_folder(spec.target):
            self._folder = JsonFolder(spec.target, sources, rotate=spec.rotate)
            return
        target = STDOUT if spec.kind == "stdout" else spec.target
        if target != STDOUT:
            check_record_file(target, sources, [path for path in self.files if path])
        self.records = JsonLines(target, live=live, rotate=spec.rotate)

    def __enter__(self) -> Self:
        if self.records is not None:
            self._stack.enter_context(self.records)
        return self

    def sinks(self, source: Source, stream: int, frames: Frames) -> list[Sink]:
        """New sinks for the open source with this number; different threads may ask for different ones."""
        sinks: list[Sink] = []
        if (path := self.files[stream]) is not None:
            image = source.kind == "image"
            sink = ImageSink(path) if image else VideoFileSink(path, frames.fps, frames.live, segment=self._segment)
            self._written[stream] = sink
            sinks.append(sink)
        if self._folder is not None:
            sinks.append(self._folder.sink(stream, live=frames.live))
        if self.records is not None:
            sinks.append(JsonSink(self.records))
        if self._windows:
            sinks.append(self._windows[stream])
        if self._null:
            sinks.append(NullSink())
        return sinks

    @property
    def paths(self) -> list[Path]:
        """All files that will be written, by the names they are given."""
        lines = [] if self.records is None or self.records.target == STDOUT else [Path(self.records.target)]
        folder = [] if self._folder is None else self._folder.paths
        return [*(path for path in self.files if path), *lines, *folder]

    def written(self, stream: int) -> str:
        """The picture or video that was written of a source, or the first and last one of a row; empty if none was."""
        return self._written[stream].written if stream in self._written else ""

    def poll(self) -> None:
        """Keeps the windows alive; for the main thread, some 30 times a second."""
        for window in dict.fromkeys(self._windows):
            window.poll()
            self.stop = self.stop or window.stop

    def wait(self) -> None:
        """Leaves the last picture on the screen until the user presses q or Esc or closes the window."""
        self.poll()
        while not self.stop and any(window.open for window in self._windows):
            time.sleep(_POLL)
            self.poll()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for window in dict.fromkeys(self._windows):
            window.close()
        self._stack.__exit__(kind, error, trace)


def _windows(sources: Sequence[Source], title: str) -> list[WindowSink]:
    """A window for each video, camera and stream, and one for all pictures."""
    from keyposs_trt.video.window import WindowSink

    pictures = WindowSink(title or NAME, stays=True)
    windows, taken = [], {pictures.title}
    for number, source in enumerate(sources):
        if source.kind == "image":
            windows.append(pictures)
            continue
        name = title if title and len(sources) == 1 else f"{title or NAME}: {stem_of(source)}"
        name = f"{name} ({number})" if name in taken else name
        taken.add(name)
        windows.append(WindowSink(name))
    return windows
