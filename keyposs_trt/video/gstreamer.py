"""Sources through GStreamer: a child process ``gst-launch-1.0`` decodes, and hands raw pictures over a pipe.

OpenCV from PyPI is built without GStreamer, and a Jetson decodes and reads its cameras by nothing else; a process of its own also keeps
a driver that crashes away from ours.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.video.addresses import without_passwords
from keyposs_trt.video.feeds import BrokenError, Picture, plausible_fps, wanted
from keyposs_trt.video.gdp import HEADER, Caps, parse_caps, parse_header
from keyposs_trt.video.network import reach, unanswered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import Event

_NO_GSTREAMER = "install gstreamer1.0-tools, gstreamer1.0-plugins-base, -good and -bad"
_NO_JETSON = "that takes a Jetson with nvidia-l4t-gstreamer installed"
_BGR = ("!", "videoconvert", "!", "video/x-raw,format=BGR")
# The converter of a Jetson takes pictures out of its video memory, but knows no BGR.
_FROM_NVMM = ("!", "nvvidconv", "!", "video/x-raw,format=BGRx", *_BGR)
_RANKS = {
    "nvv4l2": "nvv4l2decoder:MAX",
    "nvdec": "nvh264dec:MAX,nvh265dec:MAX,nvav1dec:MAX,nvvp9dec:MAX",
    "software": "nvv4l2decoder:NONE,nvh264dec:NONE,nvh265dec:NONE",
}
_LATENCY = 200  # milliseconds of rtspsrc's jitter buffer
_PIPE = 1 << 20  # bytes
_TICK = 100  # milliseconds between two looks whether to stop
# Seconds that the first picture, a key frame, may take beyond the time-out: fewer than streams.py waits, so that our reason is told.
_FIRST = 4.0


class GstFeed:
    """The pictures of a GStreamer pipeline that ends in video/x-raw,format=BGR.

    Args:
        pipeline: the words for gst-launch-1.0.
        live: see ``Feed``.
        decoder: software, nvdec or nvv4l2: what decodebin shall prefer.
        timeout: seconds without a picture after which the source counts as silent; only the first one is waited for by this class.

    Raises:
        BrokenError: there is no GStreamer, the pipeline gives no picture in time, or nobody wants it any more.
    """

    count: int | None = None
    notes: Sequence[Event] = ()

    def __init__(self, pipeline: Sequence[str], *, live: bool, decoder: str = "software", timeout: float = 5.0) -> None:
        self.live, self.fps = live, 0.0
        self._caps: Caps | None = None
        self._interrupted = False
        self._opening, self._deadline = True, time.monotonic() + timeout + _FIRST
        self._wanted = wanted.get()
        self._errors, writing = os.pipe()
        # A child that complains without end loses its words; it must not stand still because nobody reads them.
        os.set_blocking(writing, False)
        os.set_blocking(self._errors, False)
        environment = {**os.environ, "LC_ALL": "C", "GST_PLUGIN_FEATURE_RANK": _RANKS[decoder]}
        try:
            self._child = subprocess.Popen(
                ["gst-launch-1.0", "-q", *pipeline, "!", "gdppay", "!", "fdsink", "fd=1", "sync=false"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=writing,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us: we end the child
            )
        except OSError:
            os.close(self._errors)
            raise BrokenError("there is no gst-launch-1.0", _NO_GSTREAMER) from None
        finally:
            os.close(writing)
        assert self._child.stdout is not None
        self._pipe = self._child.stdout.fileno()
        self._grow_pipe()
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        try:
            self._first = self._read()
            if self._first is None:
                complaint = self._complaint() if self._wanted() else ""
                late = f" for {timeout + _FIRST:g} s" if time.monotonic() > self._deadline else ""
                raise BrokenError(complaint or f"GStreamer gives no picture{late}", _remedy(complaint))
        except BaseException:
            self.close()
            raise
        self._opening = False
        self.fps = plausible_fps(self._caps.fps if self._caps else 0)

    def read(self) -> Picture | None:
        picture, self._first = self._first or self._read(), None
        if picture is None and not self._interrupted and (self.live or self._child.wait() != 0):
            raise BrokenError(self._complaint() or "GStreamer ended")
        return picture

    def interrupt(self) -> None:
        self._interrupted = True
        with suppress(OSError):
            self._child.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Ends the child: first by asking, since a camera's driver wants to be told, then by force."""
        if self._child.stdout is not None and not self._child.stdout.closed:
            with suppress(OSError):
                self._child.send_signal(signal.SIGINT)
            self._child.stdout.close()
            os.close(self._errors)
        try:
            self._child.wait(0.5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _read(self) -> Picture | None:
        while (data := self._bytes(HEADER)) is not None:
            header = parse_header(data)
            payload = self._bytes(header.length)
            if payload is None:
                return None
            if header.kind == "caps":
                self._caps = parse_caps(payload)
            elif header.kind == "buffer" and self._caps is not None:
                return Picture(_bgr(payload, self._caps), time.monotonic(), header.stamp)
        return None

    def _bytes(self, count: int) -> bytearray | None:
        """Exactly so many bytes, or None at the end and when stopped."""
        data = bytearray(count)
        view, at = memoryview(data), 0
        while at < count:
            while not self._stopped() and not self._poll.poll(_TICK):
                pass
            if self._stopped():
                return None
            got = os.readv(self._pipe, [view[at:]])
            if got == 0:
                return None
            at += got
        return data

    def _stopped(self) -> bool:
        """Whether to read no more; until it is open nobody can interrupt it, so it asks by itself."""
        return self._interrupted or (self._opening and (not self._wanted() or time.monotonic() > self._deadline))

    def _grow_pipe(self) -> None:
        import fcntl

        with suppress(OSError, AttributeError):  # a pipe of the usual 64 KiB does too, with more switches between the processes
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE)

    def _complaint(self) -> str:
        """The first error of the child, without passwords."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self._child.wait(0.5)
        try:
            text = os.read(self._errors, 1 << 16).decode("utf-8", "replace")
        except OSError:
            return ""
        found = re.search(r"(?:ERROR: (?:from element \S+: )?|erroneous pipeline: )([^\n]+)", text)
        return without_passwords(found[1].strip().rstrip(".")) if found else ""


def _bgr(data: bytearray, caps: Caps) -> NDArray[np.uint8]:
    """[H, W, 3]: GStreamer fills rows up to a multiple of four bytes."""
    import numpy as np

    stride = -(-3 * caps.width // 4) * 4
    if len(data) < stride * caps.height:
        raise BrokenError("GStreamer gives pictures of another size than it says")
    rows = np.frombuffer(data, np.uint8, stride * caps.height).reshape(caps.height, stride)
    return np.ascontiguousarray(rows[:, : 3 * caps.width]).reshape(caps.height, caps.width, 3)


def _remedy(complaint: str) -> str:
    """For what a pipeline lacks; empty where it lacks nothing."""
    missing = re.search(r'no element "(nv)?', complaint)
    return "" if missing is None else _NO_JETSON if missing[1] else _NO_GSTREAMER


def open_rtsp(address: str, options: Mapping[str, str], timeout: float, decoder: str) -> GstFeed:
    """An RTSP stream; see ``ffmpeg.open_rtsp``.

    Raises:
        BrokenError: it cannot be opened.
    """
    reach(address, timeout)
    begin = time.monotonic()
    try:
        return GstFeed(rtsp_pipeline(address, options, timeout, decoder), live=True, decoder=decoder, timeout=timeout)
    except BrokenError:
        if time.monotonic() - begin >= timeout:  # as with FFmpeg: what is refused is refused at once
            raise unanswered(timeout) from None
        raise


def rtsp_pipeline(address: str, options: Mapping[str, str], timeout: float, decoder: str) -> list[str]:
    """Words for an RTSP stream; sound is not even fetched."""
    source = [
        *("rtspsrc", f"location={_quoted(address)}", f"protocols={options.get('transport', 'tcp')}"),
        *(f"latency={options.get('latency', _LATENCY)}", f"tcp-timeout={int(1e6 * timeout)}"),
    ]
    return [*source, "!", "application/x-rtp,media=video", "!", "decodebin", *_converter(decoder)]


def uri_pipeline(uri: str, decoder: str) -> list[str]:
    """Words for a file or an address on the web, turned upright where its metadata say so."""
    source = ["uridecodebin", f"uri={_quoted(uri)}", "caps=video/x-raw(ANY)", "expose-all-streams=false"]
    return [*source, *_converter(decoder)[:-2], "!", "videoflip", "video-direction=auto", *_BGR]


def file_pipeline(path: str, decoder: str) -> list[str]:
    """Words for a video file."""
    return uri_pipeline(Path(path).absolute().as_uri(), decoder)


def csi_pipeline(sensor: str, options: Mapping[str, str]) -> list[str]:
    """Words for a camera on the CSI connector of a Jetson."""
    caps = ["video/x-raw(memory:NVMM)", *(f"{key}={options[key]}" for key in ("width", "height") if key in options)]
    if "fps" in options:
        caps.append(f"framerate={_fraction(options['fps'])}")
    converter = ["nvvidconv", f"flip-method={options.get('flip', '0')}"]
    return ["nvarguscamerasrc", f"sensor-id={sensor}", "!", ",".join(caps), "!", *converter, "!", "video/x-raw,format=BGRx", *_BGR]


def _converter(decoder: str) -> tuple[str, ...]:
    return _FROM_NVMM if decoder == "nvv4l2" else _BGR


def _fraction(fps: str) -> str:
    return f"{round(float(fps) * 1000)}/1000" if "." in fps else f"{fps}/1"


def _quoted(value: str) -> str:
    """A value that gst-launch takes as it is, whatever characters are in it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
