"""Logs as text and JSON, and events that repeat told once a minute."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from keyposs_trt.errors import UsageError
from keyposs_trt.video.contract import Event, Source
from keyposs_trt.video.logs import REPEAT_SECONDS, EventHandler, configure, log_event, restore

if TYPE_CHECKING:
    from collections.abc import Iterator

CAMERA = Source("camera", "0")
GATE = Source("rtsp", "rtsp://gate.example/a", "rtsp://user:secret@gate.example/a")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def package_logger() -> Iterator[logging.Logger]:
    """The package's logger, left as it was found."""
    logger = logging.getLogger("keyposs_trt")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    for handler in logger.handlers[:]:
        if isinstance(handler, EventHandler):
            handler.close()
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def corrupt(count: int = 1, text: str = "A frame could not be decoded.") -> Event:
    return Event("corrupt", text, count)


def objects(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_importing_sets_nothing_up() -> None:
    code = (
        "import logging; before = logging.root.handlers[:]; import keyposs_trt.video.logs, keyposs_trt.video.web, keyposs_trt.video.preview"
    )
    code += "; l = logging.getLogger('keyposs_trt'); assert not l.handlers and l.level == 0 and logging.root.handlers == before"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_json() -> None:
    stream = io.StringIO()
    logger = configure("json", stream=stream)
    log_event(logger, GATE, Event("resumed", 'The stream is back: "é"\n.', seconds=2.34567))
    log_event(logger, CAMERA, corrupt(3))
    logging.getLogger("keyposs_trt.web").info("It listens at %s.", "here")
    logger.debug("not shown")
    first, second, third = objects(stream)
    at = datetime.fromisoformat(str(first.pop("time")).replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - at).total_seconds()) < 60
    assert first == {
        "level": "info", "logger": "keyposs_trt", "event": "resumed", "source": "rtsp://gate.example/a",
        "text": 'The stream is back: "é"\n.', "seconds": 2.346,
    }  # fmt: skip
    assert {key: second[key] for key in ("level", "event", "source", "count")} == {
        "level": "warning", "event": "corrupt", "source": "0", "count": 3,
    }  # fmt: skip
    assert (third["logger"], third["text"]) == ("keyposs_trt.web", "It listens at here.")
    assert "event" not in third
    assert len(stream.getvalue().splitlines()) == 3
    assert "secret" not in stream.getvalue()


def test_text() -> None:
    stream = io.StringIO()
    logger = configure("text", "warning", stream)
    log_event(logger, Source("http", "http://a/\x1b[31m"), Event("lost", "The stream is lost;\nit is tried again. 100 %s"))
    log_event(logger, CAMERA, Event("resumed", "It is back.", seconds=2))
    log_event(logger, CAMERA, corrupt(2))
    lines = stream.getvalue().splitlines()
    assert [line.split("Z ", 1)[1] for line in lines] == [
        r"warning http://a/\x1b[31m: The stream is lost;\nit is tried again. 100 %s",
        "warning 0: A frame could not be decoded. (count 2)",
    ]
    datetime.fromisoformat(lines[0].split("Z ")[0])


@pytest.mark.parametrize("format", ["text", "json"])
def test_tracebacks(format: str) -> None:
    stream = io.StringIO()
    logger = configure(format, stream=stream)  # type: ignore[arg-type]
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logger.exception("The answer failed.")
    if format == "json":
        assert "ZeroDivisionError" in str(objects(stream)[0]["traceback"])
    else:
        assert stream.getvalue().splitlines()[-1] == "ZeroDivisionError"


def test_a_second_call_replaces_the_first() -> None:
    old, new = io.StringIO(), io.StringIO()
    configure(stream=old)
    logger = configure(stream=new)
    logger.info("hello")
    assert (old.getvalue(), new.getvalue().count("hello")) == ("", 1)
    assert logger.name == "keyposs_trt"


def test_formats_and_levels_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match="choose text or json"):
        configure("xml")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one of debug, info"):
        configure(level="loud")


def test_corrupt_frames_are_told_once_a_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    logger = configure("json", stream=stream, clock=clock)
    for i in range(100):  # a hundred seconds
        clock.now = i
        log_event(logger, CAMERA, corrupt(2, f"Frame {i} could not be decoded."))
        if i % 50 == 0:
            log_event(logger, GATE, corrupt(1))
    told = [(line["source"], line["text"], line["count"], line.get("within_seconds")) for line in objects(stream)]
    assert told == [
        ("0", "Frame 0 could not be decoded.", 2, None),
        (GATE.name, "A frame could not be decoded.", 1, None),
        ("0", "Frame 59 could not be decoded.", 118, 60),
        (GATE.name, "A frame could not be decoded.", 1, 60),
    ]
    clock.now = 1000
    logger.info("Any record brings what is overdue.")
    assert objects(stream)[-2]["count"] == 80
    for seconds in (61, 61):  # it has long been quiet: the next one is news
        clock.now += seconds
        log_event(logger, CAMERA, corrupt())
    assert [line.get("within_seconds") for line in objects(stream)[-2:]] == [None, None]


def test_other_events_repeat_if_their_sentences_are_the_same() -> None:
    stream, clock = io.StringIO(), Clock()
    logger = configure("json", stream=stream, clock=clock)
    for text in ("Lost.", "Lost.", "Lost: reset by peer.", "Lost."):
        log_event(logger, GATE, Event("lost", text))
    log_event(logger, CAMERA, Event("lost", "Lost."))
    assert [(line["source"], line["text"]) for line in objects(stream)] == [
        (GATE.name, "Lost."), (GATE.name, "Lost: reset by peer."), ("0", "Lost."),
    ]  # fmt: skip
    logger.handlers[-1].close()
    last = objects(stream)[-1]
    assert (last["source"], last["text"], last["count"], last["within_seconds"]) == (GATE.name, "Lost.", 2, 0)


def test_plain_records_are_never_held_back() -> None:
    stream = io.StringIO()
    logger = configure(stream=stream)
    for _ in range(5):
        logger.info("the same")
    assert stream.getvalue().count("the same") == 5


def test_memory_is_flat_over_many_different_events() -> None:
    stream, clock = io.StringIO(), Clock()
    logger = configure("json", "error", stream=stream, clock=clock)
    logger.setLevel(logging.DEBUG)
    handler = logger.handlers[-1]
    assert isinstance(handler, EventHandler)
    for i in range(2000):
        clock.now = i
        log_event(logger, GATE, Event("lost", f"Lost for the {i}th time."))
    assert len(handler._repeats) <= REPEAT_SECONDS + 1
    assert len(objects(stream)) == 2000


def test_a_stream_that_cannot_be_written_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    logger = configure(stream=Full())
    log_event(logger, CAMERA, Event("lost", "Lost."))
    gone = io.StringIO()
    logger = configure(stream=gone)
    gone.close()
    log_event(logger, CAMERA, Event("lost", "Lost."))
    assert capfd.readouterr() == ("", "")
    shown = io.StringIO()
    logger = configure(stream=shown)
    logger.info("%d", "a mistake")
    assert "Logging error" in capfd.readouterr().err


def test_what_was_set_up_can_be_taken_back() -> None:
    stream = io.StringIO()
    logger = configure(stream=stream)
    restore()
    assert not [handler for handler in logger.handlers if isinstance(handler, EventHandler)]
    assert (logger.level, logger.propagate) == (logging.NOTSET, True)
