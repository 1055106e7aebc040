"""OpenCV's own messages kept off the terminal: the toolkit says in one sentence what went wrong."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULTS = {"OPENCV_LOG_LEVEL": "OFF", "OPENCV_FFMPEG_LOGLEVEL": "-8"}

_lock = threading.Lock()
_inside = 0  # bodies of ``quiet_stderr`` that run now
_saved = -1  # descriptor of the real standard error meanwhile


def quiet_opencv() -> None:
    """Turns the logs of OpenCV and its FFmpeg off, unless the user set their level in the environment."""
    asked = "OPENCV_LOG_LEVEL" in os.environ
    for key, value in _DEFAULTS.items():
        os.environ.setdefault(key, value)
    if not asked and "cv2" in sys.modules:  # too late for the variable
        import cv2

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends file descriptor 2 to nowhere while the body runs.

    libpng and libjpeg write there directly and know no log level. The descriptor belongs to the whole process: what
    other threads write in the meantime is lost, so keep the body short. Bodies may overlap, in one thread or in several:
    the first one turns the descriptor away, the last one brings it back.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _turn_away()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _bring_back()


def _turn_away() -> None:
    global _saved
    try:
        _saved = os.dup(2)
    except OSError:  # standard error is closed: nothing to keep quiet
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:  # too many files are open: noise is better than an error
        return
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _bring_back() -> None:
    global _saved
    if _saved >= 0:
        os.dup2(_saved, 2)
        os.close(_saved)
        _saved = -1
