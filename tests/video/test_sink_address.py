"""Places for results, as they are written on the command line."""

from __future__ import annotations

import pytest

from keyposs_trt.errors import UsageError
from keyposs_trt.video.sink_address import SinkSpec, one_of_each, parse_sink, seconds, size


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("out", SinkSpec("path", "out")),
        ("out/", SinkSpec("path", "out/")),
        ("a b.mp4", SinkSpec("path", "a b.mp4")),
        ("windows.mp4", SinkSpec("path", "windows.mp4")),
        ("null.mp4", SinkSpec("path", "null.mp4")),
        ("./null", SinkSpec("path", "./null")),
        ("null", SinkSpec("null")),
        ("null:", SinkSpec("null")),
        ("null:x", SinkSpec("path", "null:x")),
        ("-", SinkSpec("stdout")),
        ("file:null", SinkSpec("path", "null")),
        ("file:///a/b%20c.mp4", SinkSpec("path", "/a/b c.mp4")),
        ("file://localhost/a.mp4", SinkSpec("path", "/a.mp4")),
        ("window:", SinkSpec("window")),
        ("window", SinkSpec("window")),
        ("window:Hall 2", SinkSpec("window", "Hall 2")),
        ("preview", SinkSpec("preview", "8080")),
        ("preview:", SinkSpec("preview", "8080")),
        ("preview:9000", SinkSpec("preview", "9000")),
        ("preview:0.0.0.0:9000", SinkSpec("preview", "0.0.0.0:9000")),
        ("http://0.0.0.0:9000/", SinkSpec("preview", "0.0.0.0:9000")),
        ("http://0.0.0.0", SinkSpec("preview", "0.0.0.0:8080")),
        ("http://[::]:9000", SinkSpec("preview", "[::]:9000")),
        ("http://[::1]", SinkSpec("preview", "[::1]:8080")),
        ("a.mp4?segment=10min", SinkSpec("path", "a.mp4", segment=600)),
        ("a.jsonl?rotate=100MB", SinkSpec("path", "a.jsonl", rotate=100_000_000)),
        ("out/?segment=90&rotate=1", SinkSpec("path", "out/", 90, 1)),
        ("file:a?segment=1.5h", SinkSpec("path", "a", 5400)),
        ("what?.mp4", SinkSpec("path", "what?.mp4")),
        ("a.mp4?x=1", SinkSpec("path", "a.mp4?x=1")),
        ("a?segment=5?segment=6", SinkSpec("path", "a?segment=5", 6)),
    ],
)
def test_places(text: str, spec: SinkSpec) -> None:
    assert parse_sink(text) == spec


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty"),
        ("rtsp://user:secret@host/x", r"cannot be sent to 'rtsp://host/x'"),
        ("https://host:1", "cannot be sent"),
        ("window://x", "cannot be sent"),
        ("preview:x", "no address"),
        ("preview:99999", "no address"),
        ("http://host:1/path", "no address"),
        ("a.mp4?segment=", "no time"),
        ("a.mp4?segment=0", "no time"),
        ("a.mp4?segment=-5", "no time"),
        ("a.mp4?segment=nan", "no time"),
        ("a.mp4?segment=5MB", "no time"),
        ("a.jsonl?rotate=5min", "no size"),
        ("a.jsonl?rotate=1e400", "no size"),
    ],
)
def test_places_that_make_no_sense(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        parse_sink(text)
    assert "secret" not in str(caught.value)


def test_units() -> None:
    assert [seconds(t) for t in ("2", "2s", "2 min", "2m", ".5h", "1.H")] == [2, 2, 120, 120, 1800, 3600]
    assert [size(t) for t in ("2", "2B", "2kB", "2 MB", "1.5GB", "2KiB", "1MiB", "1gib", "0.1")] == [
        2, 2, 2000, 2_000_000, 1_500_000_000, 2048, 2**20, 2**30, 1,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no size"):
        size("9" * 400)


def test_one_of_each() -> None:
    assert [s.kind for s in one_of_each(["out/", "window:", "preview:", "null:", "null:"])] == ["path", "window", "preview", "null", "null"]
    for texts, match in (
        (["a.mp4", "b.mp4"], "more than one file"),
        (["window:", "window:x"], "more than one window"),
        (["preview:", "http://x:1"], "more than one preview"),
        (["-"], "standard output"),
        (["a.mp4?rotate=5"], "segment="),
    ):
        with pytest.raises(UsageError, match=match):
            one_of_each(texts)
