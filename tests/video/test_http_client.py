"""What a GET request asks for, and to whom it shows the password."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from keyposs_trt.video.http_client import Download

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult


class Server(ThreadingHTTPServer):
    """Keeps the targets it was asked for, and sends ``/moved`` to ``location``, whose bytes it leaves as they are."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.location = "/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        moved = self.path == "/moved"
        self.send_response(302 if moved else 200)
        self.send_header("Content-Type", "video/mp4")
        if moved:
            self.send_header("Location", self.server.location.encode().decode("latin-1"))
        self.end_headers()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server: Server, target: str) -> Download:
    download = Download(f"http://127.0.0.1:{server.server_address[1]}{target}", 20)
    download.close()
    return download


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/Küche.mp4?Tür=zu", "/K%C3%BCche.mp4?T%C3%BCr=zu"),
        ("/K%C3%BCche.mp4?a=%26&b=100%25", "/K%C3%BCche.mp4?a=%26&b=100%25"),
        ("/a+b/(1)*[2]~;x='y'?u=joe@c:1/2,3!$&v=?", "/a+b/(1)*[2]~;x='y'?u=joe@c:1/2,3!$&v=?"),
        ("", "/"),
    ],
)
def test_letters_outside_ascii_are_quoted_once(server: Server, target: str, asked: str) -> None:
    assert get(server, target).kind == "video/mp4"
    assert server.asked == [asked]


def test_a_redirect_to_letters_outside_ascii(server: Server) -> None:
    server.location = "/neue Küche.mp4?a=%20"
    assert get(server, "/moved").address.endswith("/neue%20K%C3%BCche.mp4?a=%20")
    assert server.asked == ["/moved", "/neue%20K%C3%BCche.mp4?a=%20"]


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("https://joe:secret@cam/a", "http://cam/b", False),  # anybody on the way could read it
        ("https://joe:secret@cam:8443/a", "http://cam:8443/b", False),
        ("https://joe:secret@cam/a", "/b", True),
        ("http://joe:secret@cam/a", "http://cam/b", True),
        ("http://joe:secret@cam/a", "https://cam/b", True),
        ("https://joe:secret@cam/a", "https://other/b", False),
    ],
)
def test_who_gets_the_password_after_a_redirect(monkeypatch: pytest.MonkeyPatch, first: str, second: str, shown: bool) -> None:
    """Without sockets: the standard ports of both schemes cannot be had in a test."""
    got: list[bool] = []

    def answer(_: Download, parts: SplitResult, headers: dict[str, str]) -> tuple[SimpleNamespace, SimpleNamespace]:
        got.append("Authorization" in headers)
        fields = {"Location": second} if parts.path == "/a" else {}
        nothing = SimpleNamespace(close=lambda: None)
        return SimpleNamespace(status=302 if fields else 200, getheader=fields.get, close=lambda: None), nothing

    monkeypatch.setattr(Download, "_get", answer)
    Download(first, 20)
    assert got == [True, shown]
