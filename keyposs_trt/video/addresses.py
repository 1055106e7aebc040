"""Addresses of sources: a scheme, where it is, and after ``#`` our own options.

``rtsp://user:password@camera/stream?channel=1#transport=udp&latency=100``: what stands before ``#`` goes to the camera as it is, and no
server ever gets to see what stands after it. Addresses that no server sees (camera, v4l2, csi, test) take their options after ``?`` too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from keyposs_trt.errors import UsageError
from keyposs_trt.files import is_utf8
from keyposs_trt.video.contract import Source

if TYPE_CHECKING:
    from keyposs_trt.video.contract import SourceKind

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(camera):", re.IGNORECASE)
# Passwords that stand in the query, or in the path as some cameras have it.
_SECRET = re.compile(r"([\w.-]*(?:pas|pwd|pw|token|secret|key|auth|sig|cred)[\w.-]*=)[^&/;#\s'\"]*", re.IGNORECASE)
_USER = re.compile(r"(://)[^\s'\"]*@")


@dataclass(frozen=True)
class Option:
    """What an option takes: a pattern, and its words for the user."""

    pattern: str
    words: str


_FLAG = Option(r"[01]", "0 or 1")
_PIXELS = Option(r"[1-9]\d{0,4}", "a number of pixels")
_RATE = Option(r"(?!0+(\.0*)?$)\d{1,3}(\.\d{1,3})?", "frames a second")
_DECODER = {"decoder": Option(r"auto|software|nvdec|nvv4l2", "auto, software, nvdec or nvv4l2")}
_SIZE = {"width": _PIXELS, "height": _PIXELS, "fps": _RATE}
_LIFE = {
    "timeout": Option(r"(?!0+(\.0*)?$)\d{1,4}(\.\d{1,3})?", "seconds, more than 0"),
    "reconnect": _FLAG,
    "wait": _FLAG,
}
_BACKEND = {"backend": Option(r"ffmpeg|gstreamer", "ffmpeg or gstreamer"), **_DECODER}
_CAMERA = {**_SIZE, "format": Option(r"[A-Za-z0-9]{4}", "four letters such as MJPG"), **_LIFE}
_STREAM = {"transport": Option(r"tcp|udp", "tcp or udp"), "latency": Option(r"\d{1,5}", "milliseconds"), **_BACKEND, **_LIFE}
_WEB = {**_BACKEND, **_LIFE}
_TEST = {
    **_SIZE,
    "frames": Option(r"[1-9]\d{0,9}", "a number of frames"),
    "faces": Option(r"\d{1,2}", "a number of faces"),
    "image": Option(r".+", "a picture"),
    "live": _FLAG,
}
_SCHEMES: dict[str, tuple[SourceKind, dict[str, Option]]] = {
    "camera": ("camera", _CAMERA),
    "v4l2": ("camera", _CAMERA),
    "csi": ("csi", {**_SIZE, "flip": Option(r"[0-7]", "0 to 7, as of nvvidconv"), **_LIFE}),
    "rtsp": ("rtsp", _STREAM),
    "rtsps": ("rtsp", _STREAM),
    "http": ("http", _WEB),
    "https": ("http", _WEB),
    "test": ("test", _TEST),
    "file": ("video", _DECODER),
}
_LOCAL = frozenset(("camera", "v4l2", "csi", "test"))
_HOW = "write it as in rtsp://user:password@host:554/path, and in a password %23 for #, %2F for /, %3F for ?, %40 for @"
_EXAMPLES = {"camera": "camera:0", "v4l2": "v4l2:///dev/video0", "csi": "csi://0", "file": "file:///videos/clip.mp4"}


def is_address(argument: str) -> bool:
    """Whether an argument is an address rather than a path."""
    return _ADDRESS.match(argument) is not None


def parse_address(argument: str) -> Source:
    """The source at an address; ``file://`` gives a video whose name is the path, whatever it really is.

    Raises:
        UsageError: an unknown scheme or option, a value that makes no sense, or a part that is missing.
    """
    found = _ADDRESS.match(argument)
    scheme = (found[1] or found[2]).lower() if found else ""
    shown = quoted(argument)
    if found is None or scheme not in _SCHEMES:
        known = ", ".join(f"{s}:" if s == "camera" else f"{s}://" for s in _SCHEMES)
        raise UsageError(f"{shown} is of no kind that is known; there are {known}, and paths and camera numbers.")
    kind, allowed = _SCHEMES[scheme]
    where, _, text = argument[found.end() :].partition("#")
    if scheme in _LOCAL and "?" in where:
        where, _, query = where.partition("?")
        text = "&".join(filter(None, (query, text)))
    if "@" in text and scheme not in _LOCAL:
        raise UsageError(f"{shown} has a '#' before its '@'; in a password write '#' as %23.")
    options = _options(text, allowed, shown)
    if kind in ("rtsp", "http"):
        return _stream(kind, f"{scheme}://{where}", options, shown)
    name = _local_name(scheme, where)
    if not name:
        raise UsageError(f"{shown} does not say which; write it as in {_EXAMPLES[scheme]}.")
    return Source(kind, name, options=options)


def without_passwords(text: str) -> str:
    """A sentence or address in which no password can be read."""
    return _SECRET.sub(r"\1***", _USER.sub(r"\1", text))


def quoted(argument: str) -> str:
    """An argument for a sentence, without all that may be a password, however it is written."""
    without_user = re.sub(r"(://).*@", r"\1", argument, flags=re.DOTALL)
    return "'" + _SECRET.sub(r"\1***", without_user) + "'"


def _options(text: str, allowed: dict[str, Option], shown: str) -> tuple[tuple[str, str], ...]:
    options: dict[str, str] = {}
    for field in filter(None, text.split("&")):
        key, _, value = field.partition("=")
        value = unquote(value)
        if key not in allowed:
            raise UsageError(f"{shown} takes no option '{key}'; there are {', '.join(sorted(allowed))}.")
        if not re.fullmatch(allowed[key].pattern, value):
            raise UsageError(f"The option '{key}' of {shown} takes {allowed[key].words}, not '{value}'.")
        options[key] = value
    return tuple(sorted(options.items()))


def _stream(kind: SourceKind, address: str, options: tuple[tuple[str, str], ...], shown: str) -> Source:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"{shown} names no server; {_HOW}.") from None
    # With a port and no user, an '@' further on is that of a password which begins like a port: 'user:12/34@host'.
    if port and "@" not in parts.netloc and "@" in address:
        raise UsageError(f"{shown} can be read in two ways; {_HOW}.")
    if not host or not is_utf8(address) or re.search(r"[\s\x00-\x1f]", address):
        raise UsageError(f"{shown} names no server; {_HOW}.")
    name = _SECRET.sub(r"\1***", address.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1))
    return Source(kind, name, address if address != name else "", options)


def _local_name(scheme: str, where: str) -> str:
    """The name of a source that is not on the network; empty if it is missing."""
    where = unquote(where)
    if scheme == "test":
        return f"test://{where}"
    if scheme == "csi":
        return f"csi://{where}" if re.fullmatch(r"\d", where) else ""
    if scheme == "file":
        where = where.removeprefix("localhost")
        return where if where.startswith("/") else ""
    if where.isdecimal():
        return f"/dev/video{where}" if scheme == "v4l2" else where
    return where if where.startswith("/") else ""
