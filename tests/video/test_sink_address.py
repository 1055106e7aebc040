"""Places for results, as they are written on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyposs_trt.errors import UsageError
from keyposs_trt.video.sink_address import SinkSpec, one_of_each, parse_sink, seconds, size

if TYPE_CHECKING:
    from pathlib import Path


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
        ("a.mp4?segment=10min&", SinkSpec("path", "a.mp4", segment=600)),
        ("out/?segment=90&rotate=1", SinkSpec("path", "out/", 90, 1)),
        ("file:a?segment=1.5h", SinkSpec("path", "a", 5400)),
        ("what?.mp4", SinkSpec("path", "what?.mp4")),
        ("a.mp4?x", SinkSpec("path", "a.mp4?x")),
        ("a?x=1/b.mp4", SinkSpec("path", "a?x=1/b.mp4")),
        ("out?x=1/", SinkSpec("path", "out?x=1/")),
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
        ("rtmp://host/app?token=secret", r"cannot be sent to 'rtmp://host/app\?token=\*\*\*'; give"),
        ("rtmp://joe:my secret'@host/app", r"cannot be sent to 'rtmp://host/app'; give"),
        ("https://host:1", "cannot be sent"),
        ("window://x", "cannot be sent"),
        ("preview:x", "no address"),
        ("preview:99999", "no address"),
        ("http://host:1/path", "no address"),
        ("a.mp4?segment=", "option 'segment' takes a time such as 600, 10min or 1h, not ''"),
        ("a.mp4?segment=0", "a time"),
        ("a.mp4?segment=-5", "a time"),
        ("a.mp4?segment=nan", "a time"),
        ("a.mp4?segment=5MB", "a time"),
        ("a.mp4?segment=5=6", "a time .* not '5=6'"),
        ("a.mp4?segment=5/6", "a time .* not '5/6'"),
        ("a.jsonl?rotate=5min", "option 'rotate' takes a size such as 500kB, 100MB or 1GB, not '5min'"),
        ("a.jsonl?rotate=1e400", "a size"),
        ("a.mp4?foo=1", r"^'a\.mp4\?foo=1' takes no option 'foo'; there are segment and rotate\.$"),
        ("a.jsonl?rotat=100MB", "no option 'rotat'"),
        ("out/?segments=5", "no option 'segments'"),
        ("a.mp4?segment=5&foo=1", "no option 'foo'"),
        ("file:a.mp4?Segment=5", "no option 'Segment'"),
    ],
)
def test_places_that_make_no_sense(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        parse_sink(text)
    assert "secret" not in str(caught.value)


def test_what_is_there_may_be_called_as_it_likes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4?x=1").write_text("")
    assert parse_sink(f"{tmp_path}/a.mp4?x=1") == SinkSpec("path", f"{tmp_path}/a.mp4?x=1")


def test_units() -> None:
    assert [seconds(t, "x") for t in ("2", "2s", "2 min", "2m", ".5h", "1.H")] == [2, 2, 120, 120, 1800, 3600]
    assert [size(t, "x") for t in ("2", "2B", "2kB", "2 MB", "1.5GB", "2KiB", "1MiB", "1gib", "0.1")] == [
        2, 2, 2000, 2_000_000, 1_500_000_000, 2048, 2**20, 2**30, 1,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="The option 'x' takes a size"):
        size("9" * 400, "x")


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
