"""MJPEG over HTTP: one JPEG after another in a multipart/x-mixed-replace answer."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, cast

from keyposs_trt.video.feeds import DEFAULT_FPS, BrokenError, Picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import Event
    from keyposs_trt.video.http_client import Download

_LONGEST_HEADERS = 1 << 16  # bytes
_LARGEST = 64 << 20  # bytes of a part; no boundary within so many is none at all
_HEADERS_END = re.compile(rb"\r?\n[ \t]*\r?\n")
_FIRST_LINE = re.compile(rb"^(--[^\r\n]+)\r?\n", re.MULTILINE)
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d+)", re.IGNORECASE | re.MULTILINE)
_STRAY_MARKER = re.compile(rb"\xff[\x01-\xbf\xc8\xcc\xd8\xde\xdf\xf0-\xfd]")


class MultipartParser:
    """Takes the bytes of a multipart answer as they come, and gives its parts.

    A part ends by its Content-Length, or at the next boundary if that comes first or there is no length. What is not between
    a boundary and the end of its part is passed over.

    Args:
        boundary: of the Content-Type; servers disagree about whether its dashes belong to it. If empty, the first line that
            begins with dashes is taken.
    """

    def __init__(self, boundary: str) -> None:
        name = boundary.strip().strip('"').lstrip("-").encode("latin-1", "replace")
        self._mark = b"--" + name if name else b""
        self._data = bytearray()
        self._seen = 0  # bytes in which no boundary begins

    def feed(self, data: bytes) -> list[bytes]:
        """The parts that are complete now.

        Raises:
            BrokenError: a part has no end.
        """
        self._data += data
        if not self._mark:
            line = _FIRST_LINE.search(self._data)
            self._mark = line[1] if line else b""
        parts: list[bytes] = []
        while self._mark and (part := self._next()) is not None:
            parts.append(part)
        if len(self._data) > _LARGEST:
            raise BrokenError("it sends no pictures that end")
        return parts

    def _next(self) -> bytes | None:
        start = self._data.find(self._mark)
        if start < 0:
            del self._data[: max(len(self._data) - len(self._mark), 0)]
            return None
        del self._data[:start]
        headers_end = _HEADERS_END.search(self._data, len(self._mark))
        if headers_end is None:
            if len(self._data) > _LONGEST_HEADERS:  # it was no boundary
                del self._data[: len(self._mark)]
            return None
        begin = headers_end.end()
        found = _LENGTH.search(self._data, 0, begin)
        length = int(found[1]) if found else None
        end = self._data.find(self._mark, max(begin, self._seen))
        if length is not None and len(self._data) >= begin + length and not begin <= end < begin + length:
            end = begin + length
        elif end < 0:
            self._seen = max(begin, len(self._data) - len(self._mark))
            return None
        part = bytes(self._data[begin:end])
        del self._data[:end]
        self._seen = 0
        return part


class MjpegFeed:
    """The pictures of an MJPEG answer; their time is that of their arrival."""

    live, count, fps = True, None, DEFAULT_FPS
    notes: Sequence[Event] = ()

    def __init__(self, download: Download) -> None:
        self._download = download
        self._parser = MultipartParser(boundary_of(download.content_type))
        self._parts: list[tuple[bytes, float]] = []

    def read(self) -> Picture | None:
        while not self._parts:
            data = self._download.read()
            if not data:
                raise BrokenError("the server closed the connection")
            arrived = time.monotonic()
            self._parts = [(part, arrived) for part in self._parser.feed(data) if part.strip()]
        data, arrived = self._parts.pop(0)
        return Picture(_decoded(data), arrived)

    def interrupt(self) -> None:
        self._download.interrupt()

    def close(self) -> None:
        self._download.close()


def _decoded(data: bytes) -> NDArray[np.uint8] | None:
    """The picture, or None. Damage that libjpeg would warn of is found first: turning standard error away takes lines of others."""
    import cv2
    import numpy as np

    if not jpeg_is_whole(data):
        return None
    try:
        return cast("NDArray[np.uint8] | None", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    except cv2.error:  # larger than OpenCV allows
        return None


def boundary_of(content_type: str) -> str:
    """The boundary that a Content-Type states; many cameras write it without quotes, some without need."""
    found = re.search(r"boundary\s*=\s*(\"[^\"]*\"|[^;\s]+)", content_type, re.IGNORECASE)
    return found[1] if found else ""


def jpeg_is_whole(data: bytes) -> bool:
    """Whether JPEG data have a beginning, an end, and between them coded data without stray markers (ITU-T T.81, B.1.1).

    libjpeg fills up what is missing with grey and only warns.
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        if data[at + 1] == 0xDA:  # start of scan
            end = data.rfind(b"\xff\xd9", at)
            return end >= 0 and not _STRAY_MARKER.search(data, at + 2, end)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
