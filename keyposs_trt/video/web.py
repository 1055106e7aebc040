"""A small web server for metrics and previews: GET and HEAD alone, few connections, and it never holds the pipeline up."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.video.web_connections import Connections, Response

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

DEFAULT_HOST = "127.0.0.1"  # pictures of faces are nobody else's business unless the user says so
CONNECTIONS = 32
PATIENCE = 10.0  # seconds a client may take for its request, or for taking a part of the answer

Handler = Callable[[], Response]


def to_json(tree: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A tree as a JSON answer."""
    return Response(json.dumps(tree, allow_nan=False).encode() + b"\n", "application/json", status)


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``:PORT`` or ``PORT``; IPv6 addresses stand in brackets, and port 0 is any that is free.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"(?:(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\[\]/\s]*)):)?(?P<port>[0-9]{1,5})", address.strip())
    if not match or int(match["port"]) > 65535:
        raise UsageError(f"'{address}' is no address to listen at; give a port such as 8080, or HOST:PORT such as 0.0.0.0:8080.")
    return match["six"] or match["host"] or DEFAULT_HOST, int(match["port"])


class WebServer:
    """Answers HTTP requests in threads of its own; a context manager that listens inside.

    A request at this machine's own address must name that address (``Host``), so that no web page elsewhere can read the pictures
    through the reader's browser.

    Args:
        address: see ``parse_address``.
        connections: most endless answers at a time; further ones are refused with 503. As many connections again are kept for short
            answers, so that the state of health can be asked whoever watches.
        patience: seconds a client may take.

    Raises:
        UsageError: the address makes no sense.
        OutputError: when entered, the port is taken or may not be used.
    """

    def __init__(self, address: str, *, connections: int = CONNECTIONS, patience: float = PATIENCE) -> None:
        self.host, self.port = parse_address(address)
        self._address = address
        self._connections, self._patience = connections, patience
        self._routes: dict[str, tuple[Handler, str]] = {}
        self._lock = threading.Lock()
        self._server: Connections | None = None
        self._thread: threading.Thread | None = None

    def route(self, path: str, handler: Handler, title: str = "") -> bool:
        """Has a path answered; False where it is taken already, and stays as it is.

        Args:
            path: such as ``/metrics``; what follows a ``?`` in a request is ignored.
            handler: called in a thread of the server, by several at once.
            title: what a page that lists the paths calls it.
        """
        with self._lock:
            if path in self._routes:
                return False
            self._routes[path] = handler, title
            return True

    def titles(self) -> dict[str, str]:
        """Path -> title, in the order they were added."""
        with self._lock:
            return {path: title for path, (_, title) in self._routes.items()}

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    @property
    def watchers(self) -> int:
        """Endless answers that are being given now."""
        return self._server.endless if self._server else 0

    def answer(self, path: str) -> Response:
        """What the path's handler answers, or 404 with a list of the paths."""
        with self._lock:
            handler = self._routes.get(path, (None, ""))[0]
            known = "\n".join(self._routes)
        return handler() if handler else Response(f"Not found. There are:\n{known}\n".encode(), status=HTTPStatus.NOT_FOUND)

    def __enter__(self) -> Self:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self._server = Connections(found[0][0], found[0][4], self._connections, self._patience, self.answer, self.host)
        except (OSError, UnicodeError) as e:
            why = getattr(e, "strerror", None) or str(e)
            raise OutputError(
                f"Cannot listen at '{self._address}': {why}; give an address of this machine and a free port above 1023, or 0 for any."
            ) from e
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="web server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server and self._thread:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server.end_connections()
