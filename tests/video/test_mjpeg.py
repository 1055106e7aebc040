"""MJPEG over HTTP: parts, damaged pictures, passwords, and servers that vanish, stall and change."""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from gst_tools import open_files
from mjpeg_server import MjpegServer, jpeg

from keyposs_trt.errors import InputError
from keyposs_trt.video.feeds import BrokenError
from keyposs_trt.video.mjpeg import MultipartParser, boundary_of, jpeg_is_whole
from keyposs_trt.video.sources import expand, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyposs_trt.video.contract import Event


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.kill()


def parts_of(data: bytes, boundary: str = "edge", step: int = 7) -> list[bytes]:
    parser, parts = MultipartParser(boundary), []
    for i in range(0, len(data), step):
        parts += parser.feed(data[i : i + step])
    return parts


def part(data: bytes, *headers: str, end: bytes = b"\r\n") -> bytes:
    lines = ["--edge", "Content-Type: image/jpeg", *headers, "", ""]
    return end.join(line.encode() for line in lines) + data + end


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_parts_by_length_and_by_boundary(step: int) -> None:
    data = part(b"one--", "Content-Length: 5") + part(b"two\r\n\r\n") + part(b"three", "content-length:5", end=b"\n") + b"--edge--\r\n"
    assert [p.rstrip() for p in parts_of(data, step=step)] == [b"one--", b"two", b"three"]
    assert [p.rstrip() for p in parts_of(b"garbage \xff--ed" + data, step=step)] == [b"one--", b"two", b"three"]


def test_a_part_with_a_length_is_there_before_the_next_boundary() -> None:
    parser = MultipartParser("edge")
    assert parser.feed(part(b"picture", "Content-Length: 7")) == [b"picture"]
    assert parser.feed(part(b"picture")) == []


@pytest.mark.parametrize("step", [7, 10_000])
def test_a_wrong_length_does_not_swallow_the_next_part(step: int) -> None:
    data = part(b"cut", "Content-Length: 100") + part(b"whole" * 40, "Content-Length: 200") + part(b"short", "Content-Length: 2")
    assert [p.rstrip() for p in parts_of(data + b"--edge", step=step)] == [b"cut", b"whole" * 40, b"sh"]


def test_an_answer_that_never_ends_a_part() -> None:
    parser = MultipartParser("edge")
    parser.feed(b"--edge\r\n\r\n")
    with pytest.raises(BrokenError, match="no pictures"):
        parser.feed(bytes(65 << 20))
    parser = MultipartParser("edge")  # garbage without any boundary costs no memory
    for _ in range(70):
        assert parser.feed(bytes(1 << 20)) == []


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=edge", "edge"),
        ('multipart/x-mixed-replace;boundary="the edge"; x=1', '"the edge"'),
        ("multipart/x-mixed-replace; BOUNDARY = --edge", "--edge"),
        ("multipart/x-mixed-replace", ""),
    ],
)
def test_boundaries(header: str, boundary: str) -> None:
    assert boundary_of(header) == boundary
    mark = boundary.strip('"') or "--any"
    for dashes in ("--", ""):
        line = dashes + mark if mark.startswith("--") or dashes else "--" + mark
        data = f"{line}\r\nContent-Length: 3\r\n\r\none\r\n{line}\r\n\r\ntwo\r\n{line}\r\n".encode()
        assert [p.strip(b"\r\n-") for p in parts_of(data, boundary)] == [b"one", b"two"]


def test_jpeg_damage_is_seen() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    progressive = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    restarts = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[1].tobytes()
    for data in (jpeg(1), progressive, restarts, restarts + b"\r\n\0"):
        assert jpeg_is_whole(data)
    half = len(restarts) // 2
    for data in (restarts[:half], restarts[:-2], b"x" + restarts, restarts[:half] + b"\xff\x13" + restarts[half:], b"", b"\xff\xd8"):
        assert not jpeg_is_whole(data)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_frames(server: MjpegServer, chunked: bool, lengths: bool) -> None:
    server.chunked, server.lengths, server.between = chunked, lengths, b"\r\n noise --ed \xff\xd8 "
    before = time.monotonic()
    frames = open_source(*expand(server.url("/stream?channel=1") + "#timeout=20"))
    assert (frames.live, frames.count) == (True, None)
    seen = list(islice(frames, 5))
    frames.close()
    assert [f.index for f in seen] == [0, 1, 2, 3, 4]
    assert seen[0].image.shape == (48, 64, 3)
    assert seen[0].image.mean() == pytest.approx(107, abs=2)
    times = [f.time for f in seen]
    assert times[0] == 0
    assert times == sorted(set(times))
    assert before < seen[0].captured <= seen[-1].captured <= time.monotonic()


def test_damaged_pictures_are_left_out_and_counted(server: MjpegServer) -> None:
    events: list[Event] = []
    whole = jpeg(1)
    stray = whole[:-40] + b"\xff\x13" + whole[-40:]  # libjpeg only warns
    assert cv2.imdecode(np.frombuffer(stray, np.uint8), cv2.IMREAD_COLOR) is not None
    server.broken += [whole[:-20], b"no picture", stray]
    frames = open_source(*expand(server.url()), events.append)
    seen = list(islice(frames, 3))
    frames.close()
    assert [f.index for f in seen] == [0, 1, 2]
    assert {round(f.image.mean()) for f in seen} == {108}
    assert [e.kind for e in events] == ["corrupt"] * 3
    assert sum(e.count for e in events) == 3


def test_another_size_is_reported_and_goes_on(server: MjpegServer) -> None:
    events: list[Event] = []
    frames = open_source(*expand(server.url()), events.append)
    for frame in frames:
        server.data = jpeg(50, 128, 96)
        if frame.image.shape[0] == 96:
            break
    frames.close()
    assert [(e.kind, "64x48 to 128x96" in e.text) for e in events] == [("resized", True)]


def test_a_server_that_is_killed_and_comes_back(server: MjpegServer) -> None:
    events: list[Event] = []
    back: list[MjpegServer] = []

    def report(event: Event) -> None:
        events.append(event)
        if event.kind == "lost":
            back.append(MjpegServer(server.port))

    frames = open_source(*expand(server.url()), report)
    seen = []
    for frame in frames:
        seen.append(frame)
        if frame.index == 2:
            server.kill()
        if back and len(events) == 2:
            break
    frames.close()
    back[0].kill()
    assert [e.kind for e in events] == ["lost", "resumed"]
    assert "connecting again" in events[0].text
    assert [f.index for f in seen] == list(range(len(seen)))
    gap = seen[-1].captured - seen[-2].captured
    assert events[1].seconds == pytest.approx(gap)
    assert seen[-1].time - seen[-2].time == pytest.approx(gap, abs=1e-6)
    assert gap > 0.3  # the first pause


def test_a_server_that_stalls_is_lost(server: MjpegServer) -> None:
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        server.stalled.clear()

    frames = open_source(*expand(server.url() + "#timeout=0.3"), report)
    for frame in frames:
        if frame.index == 2:
            server.stalled.set()
        if len(events) == 2:
            break
    frames.close()
    assert [e.kind for e in events] == ["lost", "resumed"]
    assert "no frame for 0.3 s" in events[0].text or "no answer in time" in events[0].text


def test_without_reconnection_a_loss_is_the_end(server: MjpegServer) -> None:
    frames = open_source(*expand(server.url() + "#reconnect=0"))
    next(iter(frames))
    server.kill()
    with pytest.raises(InputError, match=r"stopped after \d+ frames?: the server closed the connection; check its server"):
        list(frames)
    frames.close()


def test_a_server_that_is_not_there() -> None:
    server = MjpegServer()
    server.kill()
    with pytest.raises(InputError, match="cannot be opened: connection refused; check"):
        open_source(*expand(server.url()))
    with pytest.raises(InputError, match="no machine of that name"):
        open_source(*expand("http://no.such.host.invalid/stream"))
    events: list[Event] = []
    frames = open_source(*expand(server.url() + "#wait=1"), events.append)
    assert events == []
    back: list[MjpegServer] = []
    for frame in iter_with(frames, events, lambda: back.append(MjpegServer(server.port))):
        assert (frame.index, frame.time) == (0, 0)
        break
    frames.close()
    back[0].kill()
    assert [e.kind for e in events] == ["lost", "resumed"]
    assert "waiting for it" in events[0].text


def iter_with(frames, events: list[Event], on_lost):
    """The frames, with a server started as soon as its absence was reported."""
    started = threading.Event()

    def watch() -> None:
        while not events and not started.wait(0.01):
            pass
        on_lost()

    thread = threading.Thread(target=watch)
    thread.start()
    yield from frames
    thread.join()


@pytest.mark.parametrize(
    ("path", "words"),
    [("/none", "answers 404"), ("/page", "sends text/html, no video; give the address of the stream itself")],
)
def test_answers_that_are_no_stream(server: MjpegServer, path: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(*expand(server.url(path)))


@pytest.mark.parametrize("kind", ["basic", "digest"])
def test_passwords(server: MjpegServer, kind: str) -> None:
    server.password = kind
    (source,) = expand(server.url("/moved", "joe:se%40cret@"))
    assert "cret" not in source.name + repr(source)
    frames = open_source(source)
    assert next(iter(frames)).index == 0
    frames.close()
    for user in ("joe:wr0ng@", ""):
        with pytest.raises(InputError, match=r"answers 401 .*; put user and password into the address") as raised:
            open_source(*expand(server.url(user=user)))
        assert "wr0ng" not in str(raised.value)


def test_close_ends_a_read_that_waits(server: MjpegServer) -> None:
    frames = open_source(*expand(server.url() + "#timeout=60"))
    server.stalled.set()
    thread = threading.Thread(target=lambda: list(frames))
    thread.start()
    begin = time.monotonic()
    frames.close()
    thread.join(20)
    assert not thread.is_alive()
    assert time.monotonic() - begin < 5  # far below the time-out


def test_close_ends_the_wait_for_a_server() -> None:
    server = MjpegServer()
    server.kill()
    frames = open_source(*expand(server.url() + "#wait=1"))
    thread = threading.Thread(target=lambda: list(frames))
    thread.start()
    frames.close()
    thread.join(20)
    assert not thread.is_alive()


def test_fifty_times_open_and_closed_leaves_nothing(server: MjpegServer) -> None:
    def once() -> None:
        frames = open_source(*expand(server.url()))
        next(iter(frames))
        frames.close()

    once()
    own = threading.active_count()
    before = open_files()
    for _ in range(50):
        once()
    server.kill()  # its threads and descriptors are ours too
    wait_until(lambda: threading.active_count() < own and open_files() < before)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
