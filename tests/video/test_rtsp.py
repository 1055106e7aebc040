"""RTSP through FFmpeg and GStreamer, from a real server that is killed and started again."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from gst_tools import RtspServer, children

from keyposs_trt.errors import InputError
from keyposs_trt.video.sources import expand, open_source

if TYPE_CHECKING:
    from keyposs_trt.video.contract import Event

BACKENDS = ["ffmpeg", "gstreamer"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_server_that_is_killed_and_comes_back(backend: str) -> None:
    server = RtspServer("--sound")
    events: list[Event] = []

    def report(event: Event) -> None:
        nonlocal server
        events.append(event)
        if event.kind == "lost":
            server = RtspServer(port=server.port)

    frames = open_source(*expand(f"rtsp://{server.address}#backend={backend}&timeout=10"), report)
    assert frames.live
    seen = []
    for frame in frames:
        seen.append(frame)
        if frame.index == 5:
            server.kill()
        if len(events) == 2:
            break
    frames.close()
    server.kill()
    assert [e.kind for e in events] == ["lost", "resumed"]
    assert events[0].text.startswith(f"Stream 'rtsp://{server.address}' stopped after ")
    assert [f.index for f in seen] == list(range(len(seen)))
    times = [f.time for f in seen]
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(seen[-1].captured - seen[0].captured, abs=5)
    assert {f.image.shape for f in seen} == {(240, 320, 3)}
    assert seen[2].image.max() > 200  # the ball
    assert events[1].seconds > 0.3
    assert children() == []


def test_a_password() -> None:
    server = RtspServer("--user", "joe:se@cret", "--codec", "jpeg")
    try:
        for backend in BACKENDS:
            (source,) = expand(f"rtsp://joe:se%40cret@{server.address}#backend={backend}&transport=tcp&latency=50")
            frames = open_source(source)
            frame = next(iter(frames))
            frames.close()
            assert frame.image.shape == (240, 320, 3)
            with pytest.raises(InputError, match=r"cannot be opened: .*; check") as raised:
                open_source(*expand(f"rtsp://joe:wr0ng@{server.address}#backend={backend}"))
            assert "wr0ng" not in str(raised.value)
            assert server.address in str(raised.value)
    finally:
        server.kill()
    for backend in BACKENDS:
        with pytest.raises(InputError, match="cannot be opened: connection refused; check address"):
            open_source(*expand(f"rtsp://{server.address}#backend={backend}"))
    assert children() == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_over_udp_and_close_from_another_thread(backend: str) -> None:
    server = RtspServer()
    try:
        frames = open_source(*expand(f"rtsp://{server.address}#backend={backend}&transport=udp"))
        begun = threading.Event()

        def read() -> None:
            for _ in frames:
                begun.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(30)
        begin = time.monotonic()
        frames.close()
        thread.join(30)
        assert not thread.is_alive()
        assert time.monotonic() - begin < 5  # the time-out, which nobody waits for
    finally:
        server.kill()
    assert children() == []


def test_options_of_ffmpeg_are_gone_when_it_is_open() -> None:
    server = RtspServer("--codec", "jpeg")
    try:
        frames = open_source(*expand(f"rtsp://{server.address}#latency=20"))
        assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ
        frames.close()
    finally:
        server.kill()
