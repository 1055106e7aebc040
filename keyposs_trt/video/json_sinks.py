"""Landmarks as JSON lines: of all streams in one file, or of each stream in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyposs_trt.video.jsonl import JsonLines
from keyposs_trt.video.record import frame_line
from keyposs_trt.video.sinks import plan_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import FrameResult, Source


class JsonSink:
    """Writes the results of a stream to JSON lines that are open already, and stay open.

    Several streams may share them, each with a sink of its own: their lines alternate, each is whole, and the fields ``source`` and
    ``stream`` tell them apart.
    """

    draws = False

    def __init__(self, records: JsonLines) -> None:
        self._records = records

    def __enter__(self) -> JsonSink:
        return self

    def write(self, result: FrameResult, drawn: NDArray[np.uint8] | None) -> None:  # noqa: ARG002 (nothing is drawn for it)
        """Writes a line."""
        self._records.write_line(frame_line(result))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class JsonFileSink:
    """Writes the results of a stream to a file of JSON lines of its own; see ``JsonLines`` for the arguments."""

    draws = False

    def __init__(self, path: Path, *, live: bool = False, rotate: int | None = None) -> None:
        self._records = JsonLines(str(path), live=live, rotate=rotate)

    def __enter__(self) -> JsonFileSink:
        self._records.__enter__()
        return self

    def write(self, result: FrameResult, drawn: NDArray[np.uint8] | None) -> None:  # noqa: ARG002
        """Writes a line."""
        self._records.write_line(frame_line(result))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._records.__exit__(kind, error, trace)


class JsonFolder:
    """A file of JSON lines for each of several streams, named after them.

    Args:
        folder: where they go; it is made.
        sources: the sources, in the order of their numbers.
        rotate: as of ``JsonLines``; for the live ones.

    Attributes:
        paths: a file for each source.

    Raises:
        UsageError: a source would be overwritten.
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: str, sources: Sequence[Source], *, rotate: int | None = None) -> None:
        self.paths = plan_records(sources, folder)
        self._rotate = rotate

    def sink(self, stream: int, *, live: bool) -> JsonFileSink:
        """The sink of the source of this number."""
        return JsonFileSink(self.paths[stream], live=live, rotate=self._rotate if live else None)
