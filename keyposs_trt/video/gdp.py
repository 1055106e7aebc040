"""The GStreamer Data Protocol, version 1.0, as the element ``gdppay`` writes it: raw pictures with their time stamps on a pipe.

After a header of 62 bytes, big-endian, comes its payload: caps as text, the bytes of a buffer, or an event.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from keyposs_trt.video.feeds import BrokenError

HEADER = 62
_NONE = 2**64 - 1  # GST_CLOCK_TIME_NONE
_BUFFER, _CAPS = 1, 2
_FIELDS = re.compile(r"(\w+)=\((?:string|int|fraction)\)([^,;\s\x00]+)")


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        kind: "buffer", "caps" or "other".
        length: bytes of the payload.
        stamp: presentation time in seconds, or None.
    """

    kind: str
    length: int
    stamp: float | None


@dataclass(frozen=True)
class Caps:
    """The pictures that follow: width, height in pixels, frames a second (0 where that varies)."""

    width: int
    height: int
    fps: float


def parse_header(data: bytes | bytearray) -> Header:
    """The header of the next payload.

    Raises:
        BrokenError: it is none of version 1.
    """
    major, minor, _, _, kind, length, stamp = struct.unpack_from(">BBBBHIQ", data)
    if (major, minor) != (1, 0):
        raise BrokenError("GStreamer writes an unknown format", "install GStreamer 1.14 or newer")
    return Header({_BUFFER: "buffer", _CAPS: "caps"}.get(kind, "other"), length, None if stamp == _NONE else stamp / 1e9)


def parse_caps(text: bytes | bytearray) -> Caps:
    """The size of pictures from caps in words, such as ``video/x-raw, format=(string)BGR, width=(int)320, ...``.

    Raises:
        BrokenError: they are no BGR pictures.
    """
    fields = dict(_FIELDS.findall(text.decode("utf-8", "replace")))
    try:
        if fields["format"] != "BGR":
            raise KeyError
        top, _, bottom = fields.get("framerate", "0/1").partition("/")
        return Caps(int(fields["width"]), int(fields["height"]), int(top) / int(bottom))
    except (KeyError, ValueError, ZeroDivisionError):
        raise BrokenError("GStreamer gives no pictures in BGR") from None
