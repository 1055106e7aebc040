"""Logs of runs that last for months: one line a record, as text or JSON, and no flood when a source goes bad.

Nothing is set up by importing this; the parts of the package only get loggers below ``keyposs_trt``.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from keyposs_trt.video.contract import Event, EventKind, Source

NAME = "keyposs_trt"
REPEAT_SECONDS = 60.0  # an event that goes on is told once in this time
LEVELS = ("debug", "info", "warning", "error")

_LEVEL_OF: dict[EventKind, int] = {
    "lost": logging.WARNING,
    "resumed": logging.INFO,
    "corrupt": logging.WARNING,
    "resized": logging.INFO,
    "clock": logging.WARNING,
    "fallback": logging.WARNING,
}  # fmt: skip


def configure(
    format: Literal["text", "json"] = "text",
    level: str = "info",
    stream: TextIO | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> logging.Logger:
    """Has the package's logs written to a stream, and replaces what an earlier call set up.

    Args:
        format: ``text`` for a reader, ``json`` for a collector of logs; the fields are in docs/metrics.md.
        level: the least that is written: ``debug``, ``info``, ``warning`` or ``error``.
        stream: standard error where None.
        clock: gives seconds and never goes back.

    Returns:
        The logger of the package.

    Raises:
        UsageError: there is no such format or level.
    """
    if format not in ("text", "json"):
        raise UsageError(f"There is no log format '{format}'; choose text or json.")
    if level not in LEVELS:
        raise UsageError(f"There is no log level '{level}'; choose one of {', '.join(LEVELS)}.")
    restore()
    logger = logging.getLogger(NAME)
    handler = EventHandler(stream or sys.stderr, clock)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    return logger


def restore() -> None:
    """Takes back what ``configure`` set up; what is still untold is told."""
    logger = logging.getLogger(NAME)
    for old in [handler for handler in logger.handlers if isinstance(handler, EventHandler)]:
        logger.removeHandler(old)
        old.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def log_event(logger: logging.Logger, source: Source, event: Event) -> None:
    """Logs what happened to a source that goes on."""
    fields: dict[str, Any] = {}
    if event.kind == "corrupt":
        fields["count"] = event.count
    if event.seconds:
        fields["seconds"] = round(event.seconds, 3)
    logger.log(_LEVEL_OF[event.kind], "%s", event.text, extra={"event": event.kind, "source": source.name, "fields": fields})


class JsonFormatter(logging.Formatter):
    """One JSON object a record: ``time``, ``level``, ``logger``, ``event``, ``source``, ``text``, then the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        tree: dict[str, Any] = {"time": _iso(record), "level": record.levelname.lower(), "logger": record.name}
        tree |= {key: value for key in ("event", "source") if (value := getattr(record, key, None)) is not None}
        tree["text"] = record.getMessage()
        if record.exc_info:
            tree["traceback"] = self.formatException(record.exc_info)
        tree |= {key: value for key, value in getattr(record, "fields", {}).items() if key not in tree}
        return json.dumps(tree, default=str)


class TextFormatter(logging.Formatter):
    """``TIME LEVEL SOURCE: TEXT (FIELD VALUE)``, with control characters written out; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        source = getattr(record, "source", None)
        fields = ", ".join(f"{key} {value}" for key, value in getattr(record, "fields", {}).items())
        text = f"{source}: {record.getMessage()}" if source else record.getMessage()
        line = _printable(f"{text} ({fields})" if fields else text)
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{_iso(record)} {record.levelname.lower():7} {line}{trace}"


@dataclass
class _Repeats:
    """How often an event came since it was last told, in the record that told it."""

    told: float
    record: logging.LogRecord
    count: int = 0


class EventHandler(logging.StreamHandler["TextIO"]):
    """Writes records to a stream; an event that repeats is told at once, then once in ``REPEAT_SECONDS`` with how many more there were.

    Events are the same if kind, source and text are; of corrupt frames the text does not matter. What is still untold when the
    handler is closed is told then. A stream that cannot be written to stops nothing.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        super().__init__(stream)
        self._clock = clock
        self._repeats: dict[tuple[str, ...], _Repeats] = {}
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record, or counts it."""
        now = self._clock()
        with self._guard:
            told = self._overdue(now)
            if self._is_new(record, now):
                told.append(record)
        for each in told:
            super().emit(each)

    def close(self) -> None:
        """Tells what was only counted."""
        now = self._clock()
        with self._guard:
            untold = [_again(repeats, now) for repeats in self._repeats.values() if repeats.count]
            self._repeats.clear()
        for record in untold:
            super().emit(record)
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk or a reader that has gone cannot be told anywhere; mistakes in a record are shown as usual."""
        if not isinstance(sys.exc_info()[1], OSError) and not self.stream.closed:
            super().handleError(record)

    def _is_new(self, record: logging.LogRecord, now: float) -> bool:
        event = getattr(record, "event", None)
        if event is None:
            return True
        source = str(getattr(record, "source", ""))
        key = (event, source) if event == "corrupt" else (event, source, record.getMessage())
        known = self._repeats.get(key)
        if known is None:
            self._repeats[key] = _Repeats(now, record)
            return True
        known.count += getattr(record, "fields", {}).get("count", 1)
        known.record = record
        return False

    def _overdue(self, now: float) -> list[logging.LogRecord]:
        """Summaries of what was counted for long enough; what did not come again is forgotten, so the memory stays flat."""
        due = []
        for key, repeats in list(self._repeats.items()):
            if now - repeats.told >= REPEAT_SECONDS:
                if repeats.count:
                    due.append(_again(repeats, now))
                    repeats.told, repeats.count = now, 0
                else:
                    del self._repeats[key]
        return due


def _again(repeats: _Repeats, now: float) -> logging.LogRecord:
    """The last record of those that were counted, with how many they are, and in how many seconds they came."""
    record = logging.makeLogRecord(dict(repeats.record.__dict__))
    record.__dict__["fields"] = getattr(record, "fields", {}) | {"count": repeats.count, "within_seconds": round(now - repeats.told, 1)}
    return record


def _iso(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
