"""Streams through the FFmpeg inside OpenCV: RTSP, HLS, and video files on web servers."""

from __future__ import annotations

import os
import ssl
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING

from keyposs_trt.video.capture import CaptureFeed, frame_count
from keyposs_trt.video.feeds import BrokenError
from keyposs_trt.video.network import reach, unanswered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class _Environment:
    """OpenCV takes FFmpeg's options from a variable of the process: openings with the same options may overlap, others wait.

    All stand in one line, or those who keep joining the ones inside would let somebody with other options wait without end.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._line: deque[object] = deque()  # one ticket for everybody who waits
        self._users = 0
        self._options = ""
        self._before: str | None = None

    @contextmanager
    def holding(self, options: str) -> Iterator[None]:
        with self._changed:
            ticket = object()
            self._line.append(ticket)
            try:
                self._changed.wait_for(lambda: self._line[0] is ticket and (self._users == 0 or self._options == options))
            finally:  # also who gives up makes room for the next
                self._line.remove(ticket)
                self._changed.notify_all()
            if self._users == 0:
                self._options, self._before = options, os.environ.get(_VARIABLE)
                # What the user set himself holds, where we do not say otherwise: of two values FFmpeg takes the latter.
                os.environ[_VARIABLE] = f"{self._before}|{options}" if self._before else options
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                if self._users == 0:
                    if self._before is None:
                        os.environ.pop(_VARIABLE, None)
                    else:
                        os.environ[_VARIABLE] = self._before
                self._changed.notify_all()


_environment = _Environment()


def open_rtsp(address: str, options: Mapping[str, str], timeout: float) -> CaptureFeed:
    """An RTSP stream.

    Args:
        address: with user and password.
        options: transport (tcp, udp) and latency (milliseconds that late packets are waited for).
        timeout: seconds without an answer or a packet.

    Raises:
        BrokenError: it cannot be opened.
    """
    reach(address, timeout)
    # Three frames tell the rate well enough; FFmpeg would look at a second of them.
    ffmpeg = {"rtsp_transport": options.get("transport", "tcp"), "allowed_media_types": "video", "fpsprobesize": "3"}
    if "latency" in options:
        ffmpeg["max_delay"] = str(1000 * int(options["latency"]))
    return _open(address, ffmpeg, timeout, live=True, remedy="check path, user and password of the address")


def open_video(address: str, timeout: float) -> CaptureFeed:
    """HLS, or a video file on a web server; live where it has no end.

    Raises:
        BrokenError: it cannot be opened.
    """
    ffmpeg = {"tls_verify": "1", "ca_file": _bundle()} if address.startswith("https:") else {}
    return _open(address, ffmpeg, timeout, live=None, remedy="check that the address is that of a video or stream")


def _open(address: str, ffmpeg: Mapping[str, str], timeout: float, *, live: bool | None, remedy: str) -> CaptureFeed:
    import cv2

    milliseconds = int(1000 * timeout)
    # More than one thread would decode that many frames late.
    threads = [cv2.CAP_PROP_N_THREADS, 1] if live else []
    parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds, *threads]
    with _environment.holding("|".join(f"{k};{v}" for k, v in ffmpeg.items())):
        begin = time.monotonic()
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, parameters)
        took = time.monotonic() - begin
    if not capture.isOpened():
        capture.release()
        if took >= timeout:  # FFmpeg gives up no sooner where it waits, and at once where it is refused
            raise unanswered(timeout)
        raise BrokenError("FFmpeg finds no video there", remedy)
    return CaptureFeed(capture, live=frame_count(capture) is None if live is None else live)


def _bundle() -> str:
    """The certificates that this machine trusts; FFmpeg, having been built elsewhere, does not know where they are."""
    known = ssl.get_default_verify_paths().cafile
    return next((path for path in (known, *_BUNDLES) if path and Path(path).is_file()), "")
