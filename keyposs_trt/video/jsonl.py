"""JSON lines: one object a frame. The fields are described in docs/json.md."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import OutputError
from keyposs_trt.files import is_special, replaced_by, temporary_beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from keyposs_trt.landmarks import Landmarks
    from keyposs_trt.video.contract import Frame

SCHEMA = 1
STDOUT = "-"


def frame_record(source: str, frame: Frame, faces: Sequence[Landmarks], scheme: str) -> dict[str, Any]:
    """The object of one frame; see docs/json.md."""
    height, width = frame.image.shape[:2]
    return {
        "schema": SCHEMA,
        "source": source,
        "frame": frame.index,
        "time": round(frame.time, 4),
        "size": [width, height],
        "scheme": scheme,
        "faces": [
            {
                "box": _numbers(face.box, 2),
                "score": _numbers(np.asarray(face.score), 4),
                "landmarks": _numbers(face.points, 3),
                "scores": _numbers(face.scores, 4),
                "covariance": _numbers(face.covariance, 4),
            }
            for face in faces
        ],
    }


def _numbers(values: NDArray[np.floating[Any]], digits: int) -> Any:
    """Nested lists of rounded numbers; what is not finite becomes null, for JSON knows neither NaN nor infinity."""
    v = np.round(np.asarray(values, np.float64), digits)
    finite = np.isfinite(v)
    return v.tolist() if finite.all() else np.where(finite, v.astype(object), np.array(None)).tolist()


class JsonLines:
    """Writes one object a line, to a file or (``-``) to standard output.

    The file is written aside and takes its name at the end. When the body raises, the lines finished so far are kept;
    no file is left if there are none. A FIFO or device, ``/dev/stdout`` too, is written to line by line.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.lines = 0
        self._stream = self._stdout = sys.stdout
        self._final = self._temporary = None

    def __enter__(self) -> JsonLines:
        path = Path(self.target)
        if self.target == STDOUT or _is_stdout(path):
            return self
        try:
            if is_special(path):
                self._stream = path.open("w", encoding="utf-8")
                return self
            self._final = replaced_by(path)
            self._final.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = temporary_beside(self._final)
            self._stream = self._temporary.open("w", encoding="utf-8")
        except OSError as e:
            raise self._cannot(e) from e
        return self

    def write(self, record: dict[str, Any]) -> None:
        """Writes one object, whole: an interruption leaves no part of a line."""
        line = json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"
        try:
            self._stream.write(line)
            self.lines += 1  # before the flush: an interruption tends to fall behind that
            self._stream.flush()
        except BrokenPipeError:
            raise  # the reader of standard output has gone: not an error of ours
        except OSError as e:
            raise self._cannot(e) from e

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._stream is self._stdout:
            return
        try:
            self._stream.close()
            if self.lines and self._temporary and self._final:
                self._temporary.replace(self._final)
        except BrokenPipeError:
            raise  # as in ``write``
        except OSError as e:
            raise self._cannot(e) from e
        finally:
            if self._temporary:
                self._temporary.unlink(missing_ok=True)

    def _cannot(self, error: OSError) -> OutputError:
        return OutputError(f"Cannot write '{self.target}': {error.strerror or error}; choose a folder you may write to, with room left.")


def _is_stdout(path: Path) -> bool:
    """Whether the path leads where standard output goes: ``/dev/stdout``, which may well stand for a regular file."""
    with suppress(OSError, ValueError, AttributeError):  # nothing there; standard output is no file, or closed
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    return False
