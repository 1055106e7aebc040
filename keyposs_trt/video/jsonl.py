"""A file of JSON lines: each line whole, whatever happens."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.files import is_special, replaced_by, temporary_beside
from keyposs_trt.video.numbered import next_number, numbered

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO

STDOUT = "-"


class JsonLines:
    """Writes one object a line, to a file or (``-``) to standard output; a context manager. Several threads may write.

    The file is written aside and takes its name at the end; a ``live`` one takes it with its first line. When the body raises, the
    lines finished so far are kept; no file is left if there are none, and an old one of that name then stays. A FIFO or device,
    ``/dev/stdout`` too, is written to line by line.

    Each line is handed to the operating system as soon as it is there. So a live file can be read while it grows, and holds every
    line also when the process is killed: all of them are whole, but for the last one if it was being written at that moment.

    Args:
        target: the file, or ``-``.
        live: for sources that run for days.
        rotate: bytes of a live file, from which on it is put aside as ``NAME-0000.jsonl``, ``NAME-0001.jsonl`` ... and a new one is
            begun. A file that is there at the start is put aside too. None for one file.

    Raises:
        UsageError: ``rotate`` makes no sense, or the file is not live.
        OutputError: the file cannot be written, or the reader of a FIFO has gone.
        BrokenPipeError: the reader of standard output has gone, which is no error of ours.
    """

    def __init__(self, target: str, *, live: bool = False, rotate: int | None = None) -> None:
        if rotate is not None and (rotate < 1 or not live):
            raise UsageError("Only JSON lines of live sources are rotated, after at least one byte; leave rotate out, or give a size.")
        self.target = target
        self.live = live
        self.rotate = rotate
        self.lines = 0
        self._lock = Lock()
        self._stream: TextIO | None = None
        self._file: _LineFile | None = None
        self._open = False
        self._to_stdout = target == STDOUT or is_stdout(Path(target))

    def __enter__(self) -> JsonLines:
        path = Path(self.target)
        try:
            if self._to_stdout:
                self._stream = sys.stdout
            elif is_special(path):
                self._stream = path.open("w", encoding="utf-8")
            else:
                self._file = _LineFile(path)
        except OSError as e:
            raise self._cannot(e) from e
        self._open = True
        return self

    def write(self, record: dict[str, Any]) -> None:
        """Writes one object."""
        self.write_line(json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n")

    def write_line(self, line: str) -> None:
        """Writes one object that is JSON already: ASCII, with a line feed at its end."""
        with self._lock:
            try:
                if not self._open:
                    raise OutputError(f"Cannot write '{self.target}': it is not open; write to it in its with block.")
                if self._stream is not None:
                    self._stream.write(line)
                    self._stream.flush()
                else:
                    self._write_to_file(line.encode("ascii"))
            except OSError as e:
                raise self._cannot(e) from e
            self.lines += 1

    def _write_to_file(self, line: bytes) -> None:
        file = self._file
        if file is not None and self.rotate is not None and file.size and file.size + len(line) > self.rotate:
            self._file = None
            file.close()
            file = None
        if file is None:  # also where no new one could be begun for the line before: the disk may be back
            file = self._file = _LineFile(Path(self.target))
        file.append(line)
        if self.live and not file.in_place:
            if self.rotate is not None:
                file.put_older_aside()
            file.put_in_place()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
            file, self._file = self._file, None
            self._open = False
        try:
            if file is not None:
                file.close()
            elif stream is not None and not self._to_stdout:
                stream.close()
        except OSError as e:
            if not isinstance(error, OutputError):  # which told of it already
                raise self._cannot(e) from e

    def _cannot(self, error: OSError) -> OSError | OutputError:
        if isinstance(error, BrokenPipeError):
            # Of standard output, that is the reader's way to say that he has seen enough, not an error of ours.
            return error if self._to_stdout else OutputError(f"Cannot write '{self.target}': its reader has gone; start it again.")
        return OutputError(f"Cannot write '{self.target}': {error.strerror or error}; choose a folder you may write to, with room left.")


class _LineFile:
    """A regular file that holds whole lines: written aside first, then under its name."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self.in_place = False
        self._final = replaced_by(path)
        self._final.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = temporary_beside(self._final)
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def append(self, line: bytes) -> None:
        """Writes a line; of one that fails nothing is left, and ``close`` takes away what an interruption left."""
        done = 0
        try:
            # At a place that we keep ourselves: a signal that comes between writing and counting costs or doubles nothing.
            while done < len(line):
                done += os.pwrite(self._descriptor, line[done:], self.size + done)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += done

    def put_in_place(self) -> None:
        """Gives the file its name."""
        if not self.in_place:
            self._temporary.replace(self._final)
            self.in_place = True

    def put_older_aside(self) -> None:
        """Gives the file that has the name of this one, if there is any, the next free number."""
        if self._final.exists():
            self._final.replace(numbered(self._final, next_number(self._final)))

    def close(self) -> None:
        """Leaves the whole lines under the name of the file; nothing if there are none."""
        try:
            try:
                os.ftruncate(self._descriptor, self.size)
            finally:
                os.close(self._descriptor)
            if self.size:
                self.put_in_place()
        finally:
            if not self.in_place:
                self._temporary.unlink(missing_ok=True)


def is_stdout(path: Path) -> bool:
    """Whether the path leads where standard output goes: ``/dev/stdout``, which may well stand for a regular file."""
    with suppress(OSError, ValueError, AttributeError):  # nothing there; standard output is no file, or closed
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    return False
