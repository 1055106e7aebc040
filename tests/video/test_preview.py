"""The preview as a browser gets it: films, single pictures and the page; and what the pipeline pays for it."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import weakref
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from web_tools import LONG, ask, connect, wait_for

from keyposs_trt.video import preview
from keyposs_trt.video.contract import Frame, FrameResult, Source
from keyposs_trt.video.preview import PreviewSink
from keyposs_trt.video.statistics import Statistics
from keyposs_trt.video.web import WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

NASTY = '<img src=x onerror="alert(1)">&\'\udce9'


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer("0", patience=5) as made:
        yield made


def picture(value: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def result(index: int) -> FrameResult:
    return FrameResult(Source("camera", "0"), 0, Frame(picture(0), index, index / 30, time.monotonic()), (), "300w")


def show(sink: PreviewSink, index: int, image: np.ndarray | None = None) -> None:
    sink.write(result(index), picture(index) if image is None else image)


class Film:
    """A client of ``/stream/N.mjpg``."""

    def __init__(self, server: WebServer, number: int = 0) -> None:
        self.connection = connect(server)
        self.connection.request("GET", f"/stream/{number}.mjpg")
        self.reply = self.connection.getresponse()
        assert self.reply.status == 200
        kind, _, boundary = (self.reply.getheader("Content-Type") or "").partition("; boundary=")
        assert kind == "multipart/x-mixed-replace"
        self.boundary = b"--" + boundary.encode()
        assert self.reply.readline() == self.boundary + b"\r\n"

    def part(self) -> tuple[http.client.HTTPMessage, np.ndarray]:
        """Headers and picture of the next part; its boundary has come with it."""
        headers = http.client.parse_headers(self.reply)  # type: ignore[arg-type]
        assert headers["Content-Type"] == "image/jpeg"
        data = self.reply.read(int(headers["Content-Length"]))
        assert self.reply.readline() == b"\r\n"
        assert self.reply.readline() == self.boundary + b"\r\n"
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return headers, image

    def close(self) -> None:
        self.reply.close()
        self.connection.close()


def test_a_film_of_three_pictures(server: WebServer) -> None:
    with PreviewSink(server, "camera 0") as sink:
        film = Film(server)
        for index in (40, 41, 200):
            before = time.time()
            show(sink, index)
            headers, image = film.part()
            assert headers["X-Frame"] == str(index)
            assert float(headers["X-Timestamp"]) == pytest.approx(before, abs=LONG)
            assert image.shape == (48, 64, 3)
            assert image.mean() == pytest.approx(index, abs=1)
    assert film.reply.read() == b""  # the end of the stream is the end of the film
    film.close()


def test_a_newcomer_sees_the_newest_picture_at_once(server: WebServer) -> None:
    sink = PreviewSink(server, "a")
    show(sink, 3)
    show(sink, 4)
    film = Film(server)
    assert film.part()[0]["X-Frame"] == "4"
    film.close()


def test_nothing_is_drawn_or_encoded_for_nobody(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = preview._encode

    def count(image: np.ndarray) -> bytes:
        encoded.append(int(image[0, 0, 0]))
        return encode(image)

    monkeypatch.setattr(preview, "_encode", count)
    sink = PreviewSink(server, "a")
    assert not sink.draws
    show(sink, 1)
    sink.write(result(2), None)
    assert encoded == []
    films = [Film(server), Film(server)]
    wait_for(lambda: sink.watchers == 2)
    assert sink.draws
    assert [film.part()[0]["X-Frame"] for film in films] == ["1", "1"]
    show(sink, 3)
    assert [film.part()[0]["X-Frame"] for film in films] == ["3", "3"]
    assert encoded == [1, 3]  # once a picture, whoever watches
    assert server.watchers == 2
    for film in films:
        film.close()
    wait_for(lambda: not sink.draws)


def test_a_client_that_goes_away_while_the_stream_stands_still(server: WebServer) -> None:
    sink = PreviewSink(server, "a")
    film = Film(server)
    wait_for(lambda: sink.watchers == 1)
    film.close()
    wait_for(lambda: sink.watchers == 0)
    wait_for(lambda: server.watchers == 0)


def test_a_slow_client_gets_fewer_pictures_and_holds_nobody_up(server: WebServer) -> None:
    sink = PreviewSink(server, "a")
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    slow, quick = Film(server), Film(server)
    seen: list[int] = []
    late: list[int] = []
    caught_up = threading.Event()

    def watch() -> None:
        while not seen or seen[-1] < 200:
            seen.append(int(quick.part()[0]["X-Frame"]))
        caught_up.set()

    def look_now_and_then() -> None:
        caught_up.wait(LONG)
        late.extend(int(slow.part()[0]["X-Frame"]) for _ in range(6))

    watchers = [threading.Thread(target=watch), threading.Thread(target=look_now_and_then)]
    for watcher in watchers:
        watcher.start()
    index, end = 0, time.monotonic() + LONG
    while any(watcher.is_alive() for watcher in watchers) and time.monotonic() < end:
        index += 1
        show(sink, index, noise)
        time.sleep(0.005)
    assert len(seen) > 3
    assert seen == sorted(set(seen))
    assert late == sorted(set(late))
    assert len(late) == 6
    assert late[-1] - late[0] > 100  # what it did not take in time was never made for it
    for film in (slow, quick):
        film.close()
    wait_for(lambda: sink.watchers == 0)


def test_a_stalled_client_is_cut() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    with WebServer("0", patience=0.2) as server:
        sink = PreviewSink(server, "a")
        with socket.create_connection((server.host, server.port), timeout=LONG) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(b"GET /stream/0.mjpg HTTP/1.1\r\n\r\n")
            wait_for(lambda: sink.watchers == 1)
            index = iter(range(1_000_000))

            def cut() -> bool:
                show(sink, next(index), noise)
                return sink.watchers == 0

            wait_for(cut)


def test_single_pictures(server: WebServer) -> None:
    now = 100.0
    sink = PreviewSink(server, "a", clock=lambda: now)
    show(sink, 7)
    status, headers, body = ask(server, "/stream/0.jpg?123")
    assert (status, headers["Content-Type"], headers["X-Frame"]) == (200, "image/jpeg", "7")
    assert cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR).mean() == pytest.approx(7, abs=1)
    assert sink.draws  # the page will ask again
    now += 3.1
    assert not sink.draws
    replies: list[str] = []
    asked = threading.Thread(target=lambda: replies.append(ask(server, "/stream/0.jpg")[1]["X-Frame"]))
    asked.start()
    wait_for(lambda: sink.watchers == 1)  # the old picture will not do
    show(sink, 8)
    asked.join(LONG)
    assert replies == ["8"]


def test_single_pictures_of_streams_that_stand_still(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "LINGER", 0.05)
    sink = PreviewSink(server, "a")
    status, headers, _ = ask(server, "/stream/0.jpg")
    assert (status, headers["Retry-After"]) == (503, "3")
    show(sink, 5)
    wait_for(lambda: not sink.draws)
    assert ask(server, "/stream/0.jpg")[1]["X-Frame"] == "5"  # old, but the newest there is


def test_wide_pictures_are_scaled_down(server: WebServer) -> None:
    sink = PreviewSink(server, "a")
    show(sink, 1, picture(1, (1080, 1920)))
    image = cv2.imdecode(np.frombuffer(ask(server, "/stream/0.jpg")[2], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (720, 1280, 3)


@pytest.mark.parametrize("watched", [False, True])
def test_a_stream_that_ended_shows_its_last_picture_and_keeps_no_raw_one(server: WebServer, watched: bool) -> None:
    with PreviewSink(server, "a") as sink:
        show(sink, 1)
        if watched:
            assert ask(server, "/stream/0.jpg")[1]["X-Frame"] == "1"
        last = picture(2)
        gone = weakref.ref(last)
        show(sink, 2, last)
        del last
        assert gone() is not None
    assert gone() is None
    status, headers, body = ask(server, "/stream/0.jpg")
    assert (status, headers["X-Frame"]) == (200, "2")
    assert cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR).mean() == pytest.approx(2, abs=1)


def test_a_picture_is_kept_as_jpeg_alone_once_somebody_saw_it(server: WebServer) -> None:
    sink = PreviewSink(server, "a")
    image = picture(3)
    gone = weakref.ref(image)
    show(sink, 3, image)
    del image
    assert [ask(server, "/stream/0.jpg")[1]["X-Frame"] for _ in range(2)] == ["3", "3"]
    assert gone() is None


class Page(HTMLParser):
    """Elements of a page: their names and attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_page(server: WebServer) -> None:
    for name in ("door", NASTY):
        PreviewSink(server, name)
    status, headers, body = ask(server, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = Page(body.decode())
    shown = NASTY.replace("\udce9", chr(0xFFFD))  # half a character pair is no character in HTML
    assert [image["src"] for image in page.all("img")] == ["/stream/0.mjpg", "/stream/1.mjpg"]
    assert [image["alt"] for image in page.all("img")] == ["door", shown]
    assert [figure["data-name"] for figure in page.all("figure")] == ["door", shown]
    assert page.all("body") == [{"data-film": "1"}]
    assert not [a for _, a in page.elements if any(key.startswith("on") for key in a)]
    assert page.all("meta")[1]["content"] == "width=device-width, initial-scale=1"
    loaded = [value for _, a in page.elements for key in ("src", "href") if (value := a.get(key))]
    assert all(value.startswith("/stream/") for value in loaded)
    assert "http:" not in body.decode()
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src 'self' blob:")
    assert "unsafe" not in policy


def test_many_streams_are_shown_as_single_pictures(server: WebServer) -> None:
    for number in range(5):
        assert PreviewSink(server, f"camera {number}").number == number
    page = Page(ask(server, "/")[2].decode())
    assert [image["src"] for image in page.all("img")] == [f"/stream/{number}.jpg" for number in range(5)]
    assert page.all("body") == [{"data-film": "0"}]


def test_sources_of_one_name_are_told_apart_as_in_the_statistics(server: WebServer) -> None:
    statistics = Statistics()
    names = ["a", "b", "a", "a"]
    assert [PreviewSink(server, name).name for name in names] == [statistics.stream(name).name for name in names]
    assert [figure["data-name"] for figure in Page(ask(server, "/")[2].decode()).all("figure")] == ["a", "b", "a#2", "a#3"]


def test_writing_costs_no_more_than_keeping_the_picture(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's thread neither encodes nor sends: it holds no lock that a client's thread holds while it does."""
    busy, go_on = threading.Event(), threading.Event()

    def stuck(image: np.ndarray) -> bytes:
        busy.set()
        assert go_on.wait(LONG)
        return b"jpeg"

    monkeypatch.setattr(preview, "_encode", stuck)
    sink = PreviewSink(server, "a")
    show(sink, 0)
    film = Film(server)
    assert busy.wait(LONG)
    for index in range(1, 100):  # would never return
        show(sink, index)
    go_on.set()
    film.close()


def test_a_server_may_begin_after_its_sinks() -> None:
    server = WebServer("0")
    sink = PreviewSink(server, "a")
    show(sink, 9)
    with server:
        assert ask(server, "/stream/0.jpg")[1]["X-Frame"] == "9"
