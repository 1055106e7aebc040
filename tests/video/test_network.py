"""What is wrong with a server, in words."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from gst_tools import need_gstreamer
from mjpeg_server import MjpegServer

from keyposs_trt.errors import InputError
from keyposs_trt.video.feeds import BrokenError
from keyposs_trt.video.network import network_error, reach
from keyposs_trt.video.sources import expand, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes every connection and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]


def test_reach(silent: int) -> None:
    reach(f"rtsp://joe:secret@127.0.0.1:{silent}/x", 5.0)
    with pytest.raises(BrokenError, match=r"^connection refused$"):
        reach("rtsp://127.0.0.1:1/x", 5.0)
    with pytest.raises(BrokenError, match="no machine of that name"):
        reach("rtsp://" + "x" * 70 + "/x", 5.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (TimeoutError(), "no answer in time"),
        (socket.gaierror(-2, "Name or service not known"), "no machine of that name is known"),
        (ssl.SSLError(1, "unexpected message"), "unexpected message"),
        (ValueError(), "valueerror"),
    ],
)
def test_reasons(error: Exception, reason: str) -> None:
    assert str(network_error(error)) == reason


def test_https_where_there_is_http() -> None:
    server = MjpegServer()
    try:
        address = server.url().replace("http:", "https:")
        with pytest.raises(InputError, match=r"cannot be opened: the server does not speak TLS; write http://\.$"):
            open_source(*expand(address))
    finally:
        server.kill()


@pytest.mark.parametrize("backend", ["ffmpeg", "gstreamer"])
def test_a_server_that_never_answers(silent: int, backend: str) -> None:
    if backend == "gstreamer":
        need_gstreamer("rtspsrc")
    words = r"cannot be opened: the server took the connection, but did not answer in 0\.5 s; check its port"
    with pytest.raises(InputError, match=words):
        open_source(*expand(f"rtsp://127.0.0.1:{silent}/x#backend={backend}&timeout=0.5"))
