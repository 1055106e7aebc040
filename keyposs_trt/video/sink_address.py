"""Where results go, as it is written on the command line; see docs/sinks.md."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from keyposs_trt.errors import UsageError
from keyposs_trt.files import file_mode
from keyposs_trt.video.addresses import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

SinkKind = Literal["path", "stdout", "window", "preview", "null"]

PREVIEW_PORT = "8080"

_OPTIONS = re.compile(r"\?(\w+=[^?]*)$")
_SECONDS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class SinkSpec:
    """One place for results.

    Attributes:
        kind: what it is; ``path`` is a file or a folder, which ``plan_outputs`` and ``plan_records`` tell apart.
        target: path of the file or folder, title of the window, or address that the preview listens at.
        segment: seconds of each file of a row of videos, or None.
        rotate: bytes from which on JSON lines are put aside, or None.
    """

    kind: SinkKind
    target: str = ""
    segment: float | None = None
    rotate: int | None = None


def parse_sink(text: str) -> SinkSpec:
    """Reads a place for results.

    ``null:`` or ``null`` is nowhere, ``window:`` or ``window:TITLE`` a window, ``preview:PORT``, ``preview:HOST:PORT`` or
    ``http://HOST:PORT`` a page for browsers, ``-`` standard output. Anything else is a path, also after ``file:``; with
    ``?segment=SECONDS`` or ``?rotate=BYTES`` at its end, in units such as ``10min`` and ``100MB``. A file or folder that is there
    may have any other word in their place.

    Raises:
        UsageError: it is empty, an address of another kind, or an option is unknown or makes no sense.
    """
    if not text:
        raise UsageError("An empty name is no place for results; give a file, a folder, window:, preview: or null:.")
    if text == "-":
        return SinkSpec("stdout")
    scheme, colon, rest = text.partition(":")
    if scheme == "file" and colon:
        return _path(unquote(rest.removeprefix("//").removeprefix("localhost")) if rest.startswith("//") else rest)
    if scheme == "null" and not rest:
        return SinkSpec("null")
    if scheme == "window" and not rest.startswith("//"):
        return SinkSpec("window", rest)
    if scheme == "preview" and not rest.startswith("//"):
        return _preview(rest or PREVIEW_PORT)
    if text.startswith("http://"):
        place = rest.strip("/")
        return _preview(place if re.search(r":[^]]*$", place) else f"{place}:{PREVIEW_PORT}")
    if "://" in text:
        raise UsageError(f"Results cannot be sent to {quoted(text)}; give a file, a folder, window:, preview:PORT or null:.")
    return _path(text)


def one_of_each(texts: Sequence[str]) -> list[SinkSpec]:
    """Reads several places, of which there can be one of a kind.

    Raises:
        UsageError: two are of one kind, or one of them makes no sense for pictures.
    """
    specs = [parse_sink(text) for text in texts]
    for kind in ("path", "window", "preview"):
        if sum(spec.kind == kind for spec in specs) > 1:
            name = {"path": "file or folder", "window": "window", "preview": "preview page"}[kind]
            raise UsageError(f"-o names more than one {name}; give one.")
    for spec in specs:
        if spec.kind == "stdout":
            raise UsageError("Pictures cannot go to standard output; give a file or folder to -o.")
        if spec.rotate is not None:
            raise UsageError("rotate is for JSON lines; use segment=SECONDS for videos.")
    return specs


def seconds(text: str, option: str) -> float:
    """Seconds of ``90``, ``90s``, ``10min`` or ``1h``; ``option`` is what the error calls it.

    Raises:
        UsageError: it is no time above 0.
    """
    return _quantity(text, _SECONDS, f"The option '{option}' takes a time such as 600, 10min or 1h")


def size(text: str, option: str) -> int:
    """Bytes of ``500kB``, ``100MB``, ``1GB``, ``1GiB`` or a plain number; ``option`` is what the error calls it.

    Raises:
        UsageError: it is no size of at least a byte.
    """
    return max(1, int(_quantity(text, _BYTES, f"The option '{option}' takes a size such as 500kB, 100MB or 1GB")))


def _quantity(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?([A-Za-z]*)", text.strip())
    unit = units.get(match[2].lower()) if match else None
    value = float(match[1]) * unit if match and unit is not None else 0.0
    if not 0 < value < math.inf:
        raise UsageError(f"{wanted}, not '{text}'.")
    return value


def _path(text: str) -> SinkSpec:
    match = _OPTIONS.search(text)
    if match is None:
        return SinkSpec("path", text)
    options = {key: value for key, _, value in (field.partition("=") for field in match[1].split("&") if field)}
    if unknown := [key for key in options if key not in ("segment", "rotate")]:
        if "/" in match[1] or file_mode(text):  # a name like any other
            return SinkSpec("path", text)
        raise UsageError(f"'{text}' takes no option '{unknown[0]}'; there are segment and rotate.")
    segment = seconds(options["segment"], "segment") if "segment" in options else None
    rotate = size(options["rotate"], "rotate") if "rotate" in options else None
    return SinkSpec("path", text[: match.start()], segment, rotate)


def _preview(address: str) -> SinkSpec:
    from keyposs_trt.video.web import parse_address

    address = address.strip("/")
    parse_address(address)
    return SinkSpec("preview", address)
