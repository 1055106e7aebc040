"""A client of the web server, and waiting for what other threads do."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyposs_trt.video.web import WebServer

LONG = 20.0  # seconds: more than a busy machine needs


def wait_for(condition: Callable[[], object]) -> None:
    """Returns when the condition holds; fails after a long time."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def connect(server: WebServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.host, server.port, timeout=LONG)


def ask(server: WebServer, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer that ends."""
    connection = connect(server)
    try:
        connection.request(method, path, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()
