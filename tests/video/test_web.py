"""Real requests to the web server: good ones, bad ones, too many, and clients that stall or go away."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from web_tools import LONG, ask, connect, wait_for

from keyposs_trt.errors import InputError, OutputError, UsageError
from keyposs_trt.video.web import Response, WebServer, parse_address, to_json

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer("0", patience=5) as made:
        made.route("/hello", lambda: Response(b"hello"))
        yield made


class Endless:
    """An answer without end, and how many of it are open."""

    def __init__(self, part: bytes = b"x") -> None:
        self.open = 0
        self.part = part
        self._lock = threading.Lock()
        self._pace = threading.Event()

    def __call__(self) -> Response:
        return Response(self._parts())

    def _parts(self) -> Generator[bytes, None, None]:
        with self._lock:
            self.open += 1
        try:
            yield b"begin\n"
            while True:
                self._pace.wait(0.01)
                yield self.part
        finally:
            with self._lock:
                self.open -= 1


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        (":8080", "127.0.0.1", 8080),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("box.local:65535", "box.local", 65535),
        ("[::1]:9000", "::1", 9000),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_addresses(address: str, host: str, port: int) -> None:
    assert parse_address(address) == (host, port)


@pytest.mark.parametrize(
    "address", ["", "host", "host:", "1:2:3", "::1:80", "[::1]", "65536", "-1", "http://a:80", "a b:80", "[x:80", "80a"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="no address to listen at; give"):
        WebServer(address)


def test_get_and_head(server: WebServer) -> None:
    status, headers, body = ask(server, "/hello?x=/other")
    assert (status, body) == (200, b"hello")
    assert headers["Content-Length"] == "5"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "keyposs-trt"
    status, headers, body = ask(server, "/hello", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HELLO"])
def test_other_methods_are_refused(server: WebServer, method: str) -> None:
    assert ask(server, "/hello", method)[0] == 501


def test_unknown_paths_are_told_the_known_ones(server: WebServer) -> None:
    for path in ("/", "/hello/", "/../etc/passwd", "/<script>"):
        status, headers, body = ask(server, path)
        assert (status, body) == (404, b"Not found. There are:\n/hello\n")
        assert headers["Content-Type"].startswith("text/plain")


def test_routes_are_taken_once(server: WebServer) -> None:
    assert not server.route("/hello", lambda: Response(b"other"))
    assert server.route("/b", lambda: to_json({"a": 1}), "B")
    assert ask(server, "/hello")[2] == b"hello"
    assert ask(server, "/b")[1]["Content-Type"] == "application/json"
    assert server.titles() == {"/hello": "", "/b": "B"}


def test_url(server: WebServer) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}/"
    assert WebServer("[::1]:9000").url == "http://[::1]:9000/"
    assert WebServer("0.0.0.0:80").url == f"http://{socket.gethostname()}:80/"


def test_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with WebServer("[::1]:0") as server:
        server.route("/hello", lambda: Response(b"six"))
        assert ask(server, "/hello")[2] == b"six"


def test_a_page_elsewhere_cannot_read_through_the_browser(server: WebServer) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]:80"):
        status, _, body = ask(server, "/hello", headers={"Host": host})
        assert status == 403
        assert b"hello" not in body
    for host in ("localhost", f"LOCALHOST:{server.port}", "127.0.0.1:8000", "[::1]:80"):
        assert ask(server, "/hello", headers={"Host": host})[0] == 200
    with WebServer("0.0.0.0:0") as public:
        public.route("/hello", lambda: Response(b"hello"))
        with http_connection("127.0.0.1", public.port) as raw:
            raw.sendall(b"GET /hello HTTP/1.1\r\nHost: camera.example\r\n\r\n")
            assert raw.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"


def http_connection(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=LONG)


def read_begin(raw: socket.socket) -> None:
    """Reads until the first part of an endless answer."""
    answer = b""
    while b"begin\n" not in answer:
        answer += raw.recv(1)


def test_a_taken_port(server: WebServer) -> None:
    with pytest.raises(OutputError, match=rf"Cannot listen at '{server.port}'.*free port"), WebServer(str(server.port)):
        pass
    with pytest.raises(OutputError, match="address of this machine"), WebServer("192.0.2.1:0"):
        pass
    with pytest.raises(OutputError, match="Cannot listen"), WebServer(f"{'x' * 70}.invalid:0"):
        pass


def test_the_port_is_free_again_and_threads_end() -> None:
    before = threading.active_count()
    with WebServer("0") as first:
        endless = Endless()
        first.route("/endless", endless)
        connection = connect(first)
        connection.request("GET", "/endless")
        reply = connection.getresponse()
        assert reply.readline() == b"begin\n"
    assert endless.open == 0
    connection.close()
    reply.close()
    wait_for(lambda: threading.active_count() == before)
    with WebServer(str(first.port)) as second:
        assert second.port == first.port


def test_failing_handlers(server: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    def sentence() -> Response:
        raise InputError("The camera is gone; plug it in.")

    def mistake() -> Response:
        raise ZeroDivisionError

    server.route("/sentence", sentence)
    server.route("/mistake", mistake)
    assert ask(server, "/sentence")[::2] == (500, b"The camera is gone; plug it in.\n")
    with caplog.at_level(logging.ERROR, "keyposs_trt.web"):
        with pytest.raises(http.client.RemoteDisconnected):
            ask(server, "/mistake")
        wait_for(lambda: caplog.records)
    assert "ZeroDivisionError" in caplog.text
    assert ask(server, "/hello")[0] == 200


def test_garbage(server: WebServer, capfd: pytest.CaptureFixture[str]) -> None:
    for junk in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b"\r\n\r\n",
    ):
        with http_connection(server.host, server.port) as raw:
            try:
                raw.sendall(junk)
                raw.recv(100)
            except ConnectionError:
                continue
    with http_connection(server.host, server.port):
        pass
    assert ask(server, "/hello")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_that_sends_nothing_is_cut() -> None:
    with WebServer("0", patience=0.1) as server, http_connection(server.host, server.port) as raw:
        raw.sendall(b"GET /hel")
        assert raw.recv(10) == b""


def test_a_client_that_takes_nothing_is_cut() -> None:
    endless = Endless(bytes(1 << 20))
    with WebServer("0", patience=0.2) as server, http_connection(server.host, server.port) as raw:
        server.route("/endless", endless)
        raw.sendall(b"GET /endless HTTP/1.1\r\n\r\n")
        read_begin(raw)
        wait_for(lambda: endless.open == 0)
        wait_for(lambda: server.watchers == 0)


def test_a_client_that_goes_away_is_noticed_without_a_part(server: WebServer) -> None:
    endless = Endless(b"")
    server.route("/endless", endless)
    raw = http_connection(server.host, server.port)
    raw.sendall(b"GET /endless HTTP/1.1\r\n\r\nmore than was asked for")
    read_begin(raw)  # nothing is left unread, so that closing is no reset
    assert server.watchers == 1
    raw.close()
    wait_for(lambda: endless.open == 0)
    wait_for(lambda: server.watchers == 0)


def test_forty_clients_want_an_endless_answer(server: WebServer) -> None:
    endless = Endless()
    server.route("/endless", endless)
    connections = [connect(server) for _ in range(40)]
    for connection in connections:
        connection.request("GET", "/endless")
    replies = [connection.getresponse() for connection in connections]
    statuses = [reply.status for reply in replies]
    assert (statuses.count(200), statuses.count(503)) == (32, 8)
    assert {reply.getheader("Retry-After") for reply in replies if reply.status == 503} == {"10"}
    assert ask(server, "/hello")[::2] == (200, b"hello")  # short answers go on
    for each in (*replies, *connections):
        each.close()
    wait_for(lambda: endless.open == 0)
    wait_for(lambda: server.watchers == 0)
    connection = connect(server)
    connection.request("GET", "/endless")
    reply = connection.getresponse()
    assert reply.status == 200
    reply.close()
    connection.close()


def test_far_too_many_connections_are_closed() -> None:
    with WebServer("0", connections=2, patience=10 * LONG) as server:
        server.route("/hello", lambda: Response(b"hello"))
        idle = [http_connection(server.host, server.port) for _ in range(4)]
        with http_connection(server.host, server.port) as fifth:
            assert fifth.recv(1) == b""
        for each in idle:
            each.close()

        def answered() -> bool:
            try:
                return ask(server, "/hello")[0] == 200
            except (ConnectionError, http.client.HTTPException):
                return False

        wait_for(answered)


def test_head_of_an_endless_answer(server: WebServer) -> None:
    endless = Endless()
    server.route("/endless", endless)
    status, headers, body = ask(server, "/endless", "HEAD")
    assert (status, body, endless.open) == (200, b"", 0)
    assert "Content-Length" not in headers
