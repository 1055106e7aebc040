"""The connections of the web server: one request each, in a thread of its own, within limits of number and time."""

from __future__ import annotations

import ipaddress
import logging
import os
import select
import socket
import socketserver
import sys
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import KeypossError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

_SEND_BUFFER = 128 * 1024  # bytes of an endless answer on their way: what lies there grows old for a slow client
_STOP = 3.0  # seconds answers have for ending when the server stops


@dataclass(frozen=True)
class Response:
    """What a route answers.

    Attributes:
        body: the whole of it, or its parts one after the other. Of these an empty one asks whether the client is still there: the
            generator is closed when it is not, when it does not take a part in time, and when the server stops.
        kind: content type.
        status: HTTP status.
        headers: further ones.
    """

    body: bytes | Generator[bytes, None, None]
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Connections(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A listening socket and its connections, each in a thread; they are counted, and can be ended.

    Args:
        family: of the address.
        address: where to listen.
        connections: most endless answers; with short ones there may be twice as many connections.
        patience: seconds a client may take for its request, or for taking a part of the answer.
        answer: path -> what is answered.
        host: what the user calls the address.

    Attributes:
        endless: endless answers that are being given now.

    Raises:
        OSError: the address cannot be listened at.
    """

    allow_reuse_address = os.name == "posix"  # elsewhere it would let two servers share a port
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, family: int, address: Any, connections: int, patience: float, answer: Callable[[str], Response], host: str) -> None:
        self.address_family = family
        self.connections, self.patience, self.answer = connections, patience, answer
        self.endless = 0
        self._open: set[socket.socket] = set()
        self._change = threading.Condition()
        super().__init__(address, _Handler)
        self.hosts = self._own_names(host)

    def _own_names(self, host: str) -> set[str] | None:
        """Names that requests may call this machine by; None for any, where others may connect."""
        try:
            local = ipaddress.ip_address(str(self.server_address[0])).is_loopback
        except ValueError:
            local = False
        return {"localhost", "127.0.0.1", "::1", host.lower(), str(self.server_address[0])} if local else None

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether there is room for one more."""
        with self._change:
            if len(self._open) >= 2 * self.connections:
                return False
            self._open.add(request)
            return True

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        super().shutdown_request(request)
        with self._change:
            self._open.discard(request)
            self._change.notify_all()

    def begin_endless(self) -> bool:
        """Makes room for an endless answer; False where there is none."""
        with self._change:
            if self.endless >= self.connections:
                return False
            self.endless += 1
            return True

    def end_endless(self) -> None:
        """Gives the room back."""
        with self._change:
            self.endless -= 1

    def end_connections(self) -> None:
        """Cuts what is still open, and waits a little for its threads."""
        with self._change:
            for request in self._open:
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError:  # the client was faster
                    continue
            self._change.wait_for(lambda: not self._open, _STOP)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Logs what went wrong in a connection, which has ended by it."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):  # the client went away, or took too long
            _log().debug("web client: %s", error)
        else:
            _log().error("The answer to a web request failed.", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    server: Connections  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Has a client that stalls cut off."""
        super().setup()
        self.connection.settimeout(self.server.patience)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def do_GET(self) -> None:
        """Answers with the body."""
        self._give(self._response())

    def do_HEAD(self) -> None:
        """Answers without it."""
        self._give(self._response(), head=True)

    def _response(self) -> Response:
        name = self.headers.get("Host", "")
        host = (name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]).lower()
        if name and self.server.hosts is not None and host not in self.server.hosts:
            text = "This server is for this machine alone; open it as 127.0.0.1, or have a proxy send that as the Host.\n"
            return Response(text.encode(), status=HTTPStatus.FORBIDDEN)
        try:
            return self.server.answer(self.path.partition("?")[0])
        except KeypossError as e:
            return Response(f"{e}\n".encode(), status=HTTPStatus.INTERNAL_SERVER_ERROR)

    def _give(self, response: Response, *, head: bool = False) -> None:
        self.close_connection = True
        if isinstance(response.body, bytes):
            self._head(response, len(response.body))
            if not head:
                self.wfile.write(response.body)
            return
        try:
            if head:
                self._head(response, None)
            elif not self.server.begin_endless():
                later = {"Retry-After": "10"}
                self._give(Response(b"Too many watch; try again later.\n", status=HTTPStatus.SERVICE_UNAVAILABLE, headers=later))
            else:
                self._give_parts(response, response.body)
        finally:
            response.body.close()

    def _give_parts(self, response: Response, body: Generator[bytes, None, None]) -> None:
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._head(response, None)
            for part in body:
                if part:
                    self.wfile.write(part)
                elif self._gone():
                    return
        finally:
            self.server.end_endless()

    def _gone(self) -> bool:
        """Whether the client closed the connection; what else it sends is of no interest."""
        while select.select([self.connection], [], [], 0)[0]:
            if not self.connection.recv(4096):
                return True
        return False

    def _head(self, response: Response, length: int | None) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", response.kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        always = {
            "Cache-Control": "no-store",
            "Connection": "close",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for key, value in (always | dict(response.headers)).items():
            self.send_header(key, value)
        self.end_headers()

    def version_string(self) -> str:
        """The ``Server`` header, without the versions of Python."""
        return "keyposs-trt"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are logged for debugging alone."""
        _log().debug("web: " + format, *args)


def _log() -> logging.Logger:
    return logging.getLogger("keyposs_trt.web")
