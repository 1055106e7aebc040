"""A window that shows the drawn pictures of a stream."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from keyposs_trt.errors import OutputError
from keyposs_trt.quiet import quiet_stderr

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import FrameResult

WIDEST, HIGHEST = 1280, 800  # pixels of a new window; it can be drawn to any size

_LEAVE = frozenset((27, ord("q"), ord("Q")))
_PATIENCE = 30.0  # seconds
_TRIAL = "import cv2; cv2.namedWindow('keyposs-trt', cv2.WINDOW_NORMAL); cv2.destroyAllWindows()"


class WindowSink:
    """Shows a stream.

    Window systems want to be spoken to by one thread, the main one as a rule, while results come from others: so ``write`` only keeps
    the newest picture, and ``poll``, which the main thread calls some 30 times a second, shows it and reads the keyboard.

    Args:
        title: of the window; two windows need two titles.
        stays: at the end of the stream, the window stays with its last picture, and other streams may use it.

    Attributes:
        draws: True.
        open: whether the window is on the screen.
        stop: whether the user pressed q or Esc, or closed the window: the run is to end.

    Raises:
        OutputError: there is no screen, or this OpenCV knows no windows.
    """

    draws = True

    def __init__(self, title: str, *, stays: bool = False) -> None:
        if sys.platform == "linux":
            _require_screen()
        self.title = title
        self.open = False
        self.stop = False
        self._lock = Lock()
        self._newest: NDArray[np.uint8] | None = None
        self._stays = stays
        self._ended = False

    def __enter__(self) -> WindowSink:
        self._ended = False
        return self

    def write(self, result: FrameResult, drawn: NDArray[np.uint8] | None) -> None:  # noqa: ARG002 (the picture is all it needs)
        """Keeps the picture for the next ``poll``."""
        with self._lock:
            self._newest = drawn

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended = not self._stays

    def poll(self) -> None:
        """Shows the newest picture, and reads the keyboard.

        Raises:
            OutputError: the window cannot be shown any more.
        """
        import cv2

        with self._lock:
            picture, self._newest = self._newest, None
        if self.stop:
            return
        try:
            if picture is not None:  # also the last one of a stream that has ended: it may be the only one
                self._show(picture)
            if self._ended:
                self.close()
            if self.open:
                key = cv2.pollKey()
                self.stop = self._gone() or (key != -1 and key & 0xFF in _LEAVE)
        except cv2.error as e:
            self.stop = True
            raise OutputError(f"The window '{self.title}' cannot be shown any more; write to a file with -o instead.") from e

    def _show(self, picture: NDArray[np.uint8]) -> None:
        import cv2

        if self.open:
            cv2.imshow(self.title, picture)
            return
        height, width = picture.shape[:2]
        scale = min(1.0, WIDEST / width, HIGHEST / height)
        with quiet_stderr():  # Qt complains that it has no fonts, and needs none
            cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            cv2.resizeWindow(self.title, max(1, round(width * scale)), max(1, round(height * scale)))
            cv2.imshow(self.title, picture)
        self.open = True

    def _gone(self) -> bool:
        """Whether the user closed the window."""
        import cv2

        try:
            return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # Qt raises where no window is left at all
            return True

    def close(self) -> None:
        """Takes the window away; for the thread that polls."""
        import cv2

        if self.open:
            self.open = False
            try:
                cv2.destroyWindow(self.title)
                cv2.pollKey()  # otherwise it stays on the screen
            except cv2.error:  # the user closed it before us
                return


def _require_screen() -> None:
    display, wayland = os.environ.get("DISPLAY", ""), os.environ.get("WAYLAND_DISPLAY", "")
    if not display and not wayland:
        raise OutputError("There is no screen to show a window on; write to a file with -o, or look at a page with -o preview:8080.")
    if reason := _trial(sys.executable, display, wayland):
        raise OutputError(f"A window cannot be shown: {reason}; write to a file with -o, or look at a page with -o preview:8080.")


@lru_cache(maxsize=4)
def _trial(python: str, display: str, wayland: str) -> str:
    """Why no window can be shown, or nothing. In a process of its own: where the screen is not there, Qt ends the process it is in."""
    try:
        tried = subprocess.run([python, "-c", _TRIAL], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"screen '{display or wayland}' does not answer"
    except OSError as e:
        return f"it could not be tried ({e.strerror or e})"
    if tried.returncode == 0:
        return ""
    if "not implemented" in tried.stderr:
        return "this OpenCV knows no windows (install opencv-python instead of opencv-python-headless)"
    return f"screen '{display or wayland}' is not there, or lets nobody in"
