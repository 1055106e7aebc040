"""A sink that shows the newest picture of a stream in a browser, as JPEG over HTTP.

Pictures are encoded in the threads of those who watch; ``write`` only keeps a reference, and nothing is drawn while nobody watches. Only
the last picture of a stream that ends is encoded at once, to be kept as a JPEG instead of a raw picture of many times its size.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, cast

from keyposs_trt.video.web import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from keyposs_trt.video.contract import FrameResult
    from keyposs_trt.video.web import WebServer

QUALITY = 80  # of JPEG
WIDEST = 1280  # pixels; wider pictures are scaled down
MOST_FPS = 25.0  # pictures a second for one client
LINGER = 3.0  # seconds for which a single picture counts as watching: a page asks again and again
FLUENT = 3  # streams of a page that are shown as films: a browser opens six connections to a server, for pictures and figures together

_PAGE = Path(__file__).with_name("preview.html")
_BOUNDARY = "keyposs-frame"
_ASK = 0.5  # seconds between questions whether a client is still there


@dataclass(eq=False)
class _Picture:
    """A drawn picture, encoded once and by the first who wants it.

    Attributes:
        image: [H, W, 3] uint8 BGR; None once it is encoded, as streams that ended keep their last picture.
        index: number of the frame.
        stamp: Unix time of its capture.
        since: time of its arrival here, by the clock of the sink.
    """

    image: NDArray[np.uint8] | None
    index: int
    stamp: float
    since: float

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._jpeg = b""

    def jpeg(self) -> bytes:
        """The bytes of the JPEG file."""
        with self._lock:
            if self.image is not None:
                self._jpeg = _encode(self.image)
                self.image = None
            return self._jpeg

    def headers(self) -> dict[str, str]:
        return {"X-Timestamp": f"{self.stamp:.3f}", "X-Frame": str(self.index)}


class PreviewSink:
    """Shows a stream on the page of a web server; a ``Sink``.

    ``/`` lists all streams of the server, ``/stream/N.mjpg`` is a film of the newest pictures, and ``/stream/N.jpg`` one picture, with
    N counted from 0. A slow client gets fewer pictures; the pipeline waits for none.

    Args:
        server: the web server; it may be entered before or after.
        name: of the source; a second one of the same name gets ``#2``, as in ``Statistics``, where the page finds its figures.
        stays: the stream goes on after ``__exit__``: other sources may use it, such as one picture after the other.
        clock: gives seconds and never goes back.
    """

    def __init__(self, server: WebServer, name: str, *, stays: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        taken, n, self.name = set(server.titles().values()), 1, name
        while self.name in taken:
            n += 1
            self.name = f"{name}#{n}"
        self._stays = stays
        self._clock = clock
        self._change = threading.Condition()
        self._picture: _Picture | None = None
        self._watchers = 0
        self._linger = -LINGER
        self._ended = False
        self.number = 0
        while not server.route(f"/stream/{self.number}.mjpg", self._film, self.name):
            self.number += 1
        server.route(f"/stream/{self.number}.jpg", self._snapshot, self.name)
        server.route("/", lambda: _page(server.titles()))

    @property
    def watchers(self) -> int:
        """Clients that watch the film or wait for a picture now."""
        return self._watchers

    @property
    def draws(self) -> bool:
        """Whether somebody watches: otherwise nothing need be drawn."""
        return self._watchers > 0 or self._clock() - self._linger < LINGER

    def write(self, result: FrameResult, drawn: NDArray[np.uint8] | None) -> None:
        """Shows the drawn picture; returns at once, whatever the clients do."""
        if drawn is None:
            return
        now, captured = time.monotonic(), result.frame.captured
        picture = _Picture(drawn, result.frame.index, time.time() - (now - captured if captured else 0.0), self._clock())
        with self._change:
            self._picture = picture
            self._change.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._stays:
            return
        with self._change:
            self._ended = True
            picture = self._picture
            self._change.notify_all()
        if picture is not None:
            picture.jpeg()  # the page goes on showing it, but the raw picture need not stay for that

    def _film(self) -> Response:
        return Response(self._parts(), f"multipart/x-mixed-replace; boundary={_BOUNDARY}")

    def _parts(self) -> Generator[bytes, None, None]:
        """Headers and JPEG of one picture after the other; an empty part while there is none.

        The next part's boundary is sent along: browsers show a picture when they see where it ends.
        """
        shown: _Picture | None = None
        begin = f"--{_BOUNDARY}\r\n".encode()
        with self._watching():
            yield begin
            while True:
                picture = self._newer(shown, _ASK)
                if picture is None:
                    if self._ended:
                        return
                    yield b""
                    continue
                started, shown = time.monotonic(), picture
                jpeg = picture.jpeg()
                head = {"Content-Type": "image/jpeg", "Content-Length": str(len(jpeg))} | picture.headers()
                lines = "".join(f"{key}: {value}\r\n" for key, value in head.items())
                yield lines.encode() + b"\r\n" + jpeg + b"\r\n" + begin
                time.sleep(max(0.0, 1 / MOST_FPS - (time.monotonic() - started)))

    def _snapshot(self) -> Response:
        """The newest picture; if that is old, the next one, where it comes soon."""
        self._linger = self._clock()
        picture = self._picture
        if picture is None or self._linger - picture.since > LINGER:
            with self._watching():
                picture = self._newer(picture, LINGER) or picture
        if picture is None:
            text = b"No picture of this stream yet; try again.\n"
            return Response(text, status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "3"})
        return Response(picture.jpeg(), "image/jpeg", headers=picture.headers())

    def _newer(self, shown: _Picture | None, seconds: float) -> _Picture | None:
        """The newest picture if it is another than that shown; waits for one, and gives None after some seconds or at the end."""
        with self._change:
            self._change.wait_for(lambda: self._ended or self._picture is not shown, seconds)
            return None if self._picture is shown else self._picture

    @contextmanager
    def _watching(self) -> Iterator[None]:
        with self._change:
            self._watchers += 1
        try:
            yield
        finally:
            with self._change:
                self._watchers -= 1


def _encode(image: NDArray[np.uint8]) -> bytes:
    """[H, W, 3] uint8 BGR -> JPEG, not wider than ``WIDEST``."""
    import cv2

    height, width = image.shape[:2]
    if width > WIDEST:
        size = WIDEST, max(1, round(height * WIDEST / width))
        image = cast("NDArray[np.uint8]", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _page(titles: dict[str, str]) -> Response:
    """The page with all streams; what it may load and run is fixed by its headers."""
    names = {path.removesuffix(".mjpg"): title for path, title in titles.items() if path.endswith(".mjpg")}
    fluent = len(names) <= FLUENT
    figures = "".join(
        f'<figure data-name="{escape(title)}" data-base="{path}"><a href="{path}.mjpg"><img alt="{escape(title)}" '
        f'src="{path}.{"mjpg" if fluent else "jpg"}"></a>'
        f'<figcaption><b>{escape(title)}</b> <span class="state"></span><span class="numbers"></span></figcaption></figure>\n'
        for path, title in names.items()
    )
    text = _PAGE.read_text(encoding="utf-8").replace("<!-- streams -->", figures).replace("data-film", f'data-film="{int(fluent)}"', 1)
    allowed = " ".join(f"{kind}-src '{_hash(text, kind)}';" for kind in ("script", "style"))
    policy = f"default-src 'none'; img-src 'self' blob:; connect-src 'self'; {allowed} base-uri 'none'; frame-ancestors 'self'"
    return Response(text.encode(errors="xmlcharrefreplace"), "text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def _hash(text: str, element: str) -> str:
    """What a content security policy calls the page's only script or style."""
    inside = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
