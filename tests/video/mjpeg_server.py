"""An MJPEG camera for the tests: an HTTP server whose picture, manners and faults can be changed while it runs."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import socket

NONCE = "0123456789abcdef"


def jpeg(value: int, width: int = 64, height: int = 48) -> bytes:
    """A grey picture with a gradient, so that its coded data are not empty."""
    image = np.full((height, width, 3), value, np.uint8) + np.arange(width, dtype=np.uint8)[None, :, None] % 16
    return cv2.imencode(".jpg", image)[1].tobytes()


class MjpegServer(ThreadingHTTPServer):
    """Serves ``/stream`` on 127.0.0.1, a hundred pictures a second.

    Attributes:
        data: the picture.
        broken: what is sent instead, each once.
        lengths: state the Content-Length of each part.
        chunked: use chunked transfer encoding, cut at odd places.
        between: bytes before each boundary.
        password: "", "basic" or "digest": asks for joe with the password se@cret.
        stalled: sends nothing while set.
        headers: of all requests.
    """

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.data, self.lengths, self.chunked, self.between = jpeg(100), True, False, b"\r\n"
        self.broken: list[bytes] = []
        self.password = ""
        self.stalled, self.stopping = threading.Event(), threading.Event()
        self.headers: list[dict[str, str]] = []
        self.connections: set[socket.socket] = set()
        self.port = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def url(self, path: str = "/stream", user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.port}{path}"

    def kill(self) -> None:
        """As if the power was cut: the port is free, and all connections end."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(2)
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go are no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MjpegServer

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.headers.append(dict(self.headers))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/stream")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/page":
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif not self.path.startswith("/stream"):
            self.send_error(404)
        elif self.server.password and not self._allowed():
            self.send_response(401)
            challenge = f'Digest realm="cam", nonce="{NONCE}", qop="auth", algorithm=MD5' if self.server.password == "digest" else "Basic"
            self.send_header("WWW-Authenticate", challenge)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._stream()

    def _allowed(self) -> bool:
        answer = self.headers.get("Authorization", "")
        if self.server.password == "basic":
            return answer == "Basic " + base64.b64encode(b"joe:se@cret").decode()
        fields = dict(re.findall(r'(\w+)="?([^",]*)"?', answer))
        if fields.get("username") != "joe" or fields.get("uri") != self.path:
            return False
        one, two = (hashlib.md5(text.encode()).hexdigest() for text in ("joe:cam:se@cret", f"GET:{self.path}"))
        text = f"{one}:{NONCE}:{fields['nc']}:{fields['cnonce']}:auth:{two}"
        return fields["response"] == hashlib.md5(text.encode()).hexdigest()

    def _stream(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=--edge")
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.connections.add(self.connection)
        while not self.server.stopping.wait(0.01):
            if self.server.stalled.is_set():
                continue
            data = self.server.broken.pop() if self.server.broken else self.server.data
            length = f"Content-Length: {len(data)}\r\n".encode() if self.server.lengths else b""
            self._send(self.server.between + b"--edge\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + data)

    def _send(self, data: bytes) -> None:
        if not self.server.chunked:
            self.wfile.write(data)
            return
        for piece in (data[i : i + 251] for i in range(0, len(data), 251)):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
