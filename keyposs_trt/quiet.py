"""OpenCV's own messages kept off the terminal: the toolkit says in one sentence what went wrong."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULTS = {"OPENCV_LOG_LEVEL": "OFF", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


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
    other threads write in the meantime is lost, so keep the body short.
    """
    try:
        saved = os.dup(2)
    except OSError:  # standard error is closed: nothing to keep quiet
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
