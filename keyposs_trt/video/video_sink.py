"""The drawn video of a source as a file, or as a row of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.video.numbered import next_number, numbered
from keyposs_trt.video.pace import Pace
from keyposs_trt.video.video_writer import VideoWriter, writable_fps

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import FrameResult


class VideoFileSink:
    """Writes the drawn video of one source, so that its time runs as the source's does: see ``Pace``.

    A file takes its name when it is finished: at the end, also after an error, or with ``segment`` after so many seconds. A process
    that is killed loses only the one it is writing, which stays as a hidden file beside it (as .mkv or .avi it plays, as .mp4 not).

    Args:
        path: the file; its suffix, one of ``CODECS``, chooses container and codec.
        fps: frames a second.
        live: the source is.
        segment: seconds of each file of a row ``NAME-0000.mp4``, ``NAME-0001.mp4`` ..., which goes on after the highest number there is;
            None for one file.

    Attributes:
        draws: True.
        files: how many were finished.
        written: the name of the file that was finished, or the first and the last one of a row.

    Raises:
        UsageError: ``segment`` is no time.
        OutputError: the file cannot be written, or a folder, FIFO or device is there.
    """

    draws = True

    def __init__(self, path: Path, fps: float, live: bool, *, segment: float | None = None) -> None:
        if segment is not None and not segment > 0:
            raise UsageError(f"A segment of {segment:g} seconds holds nothing; give at least a second.")
        self.files = 0
        self.written = ""
        self._path = path
        self._fps = writable_fps(fps)
        self._most = None if segment is None else max(1, round(segment * self._fps))
        self._number: int | None = None
        self._first: Path | None = None
        self._pace = Pace(self._fps, live)
        self._before: NDArray[np.uint8] | None = None
        self._file: VideoWriter | None = self._next_file() if segment is None else None

    def __enter__(self) -> VideoFileSink:
        return self

    def write(self, result: FrameResult, drawn: NDArray[np.uint8] | None) -> None:
        """Writes the drawn picture: once, not at all, or after repeating the one before."""
        assert drawn is not None
        repeats, wanted = self._pace(result.frame.time)
        for _ in range(repeats):
            self._append(drawn if self._before is None else self._before)
        if wanted:
            self._append(drawn)
        self._before = drawn

    def _append(self, image: NDArray[np.uint8]) -> None:
        if self._file is not None and self._most is not None and self._file.frames >= self._most:
            self._finish(None, None, None)
        if self._file is None:
            self._file = self._next_file()
        self._file.write(image)

    def _next_file(self) -> VideoWriter:
        if self._most is not None:
            try:
                self._number = next_number(self._path) if self._number is None else self._number + 1
            except OSError as e:
                raise OutputError(f"Cannot write '{self._path}': {e.strerror or e}; choose a folder you may write to.") from e
            return VideoWriter(numbered(self._path, self._number), self._fps)
        return VideoWriter(self._path, self._fps)

    def _finish(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.__exit__(kind, error, trace)
        finally:
            if file.kept:
                self.files += 1
                self._first = self._first or file.path
                self.written = str(file.path) if file.path == self._first else f"{self._first} to {file.path}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._before = None
        self._finish(kind, error, trace)
