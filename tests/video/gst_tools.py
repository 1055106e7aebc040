"""GStreamer for the tests: whether it is there, and a server run by the system's Python, which alone knows its bindings."""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from keyposs_trt.video.decoders import missing_elements

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).parent / "rtsp_server.py"
BINDINGS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


@cache
def lacking(*elements: str) -> list[str]:
    return missing_elements(elements)


def need_gstreamer(*elements: str) -> None:
    """Skips the test unless these elements are installed."""
    if missing := lacking("gdppay", "videoconvert", "decodebin", *elements):
        pytest.skip(f"GStreamer lacks {', '.join(missing)}: run .ci/packages")


@cache
def has_bindings() -> bool:
    return (
        Path(SYSTEM_PYTHON).is_file() and subprocess.run([SYSTEM_PYTHON, "-c", BINDINGS], capture_output=True, check=False).returncode == 0
    )


class RtspServer:
    """A server of a moving ball at 320x240 pixels and 20 frames a second."""

    def __init__(self, *options: str, port: int = 0) -> None:
        need_gstreamer("rtspsrc", "openh264enc", "openh264dec", "rtph264pay", "jpegenc")
        if not has_bindings():
            pytest.skip("the system's Python has no GstRtspServer: run .ci/packages")
        if not port:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
        self.port, self.address = port, f"127.0.0.1:{port}/ball"
        self._process = subprocess.Popen([SYSTEM_PYTHON, str(SERVER), str(port), *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def open_files() -> int:
    """File descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> list[str]:
    """GStreamer's processes that any thread of ours has started and that are not gone, dead ones among them."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread or a process that ends while we look
            found += [pid for pid in (task / "children").read_text().split() if _is_gstreamer(pid)]
    return found


def _is_gstreamer(pid: str) -> bool:
    with suppress(OSError):
        return (Path("/proc") / pid / "comm").read_text().startswith("gst-")
    return False
