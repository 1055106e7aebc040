"""The statistics over HTTP, and a health that turns ill and well again as the clock is wound."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from web_tools import ask

from keyposs_trt.video.monitor import health, serve_statistics
from keyposs_trt.video.prometheus import to_prometheus
from keyposs_trt.video.statistics import COUNTERS, STAGES, Statistics
from keyposs_trt.video.web import WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyposs_trt.video.statistics import StreamStatistics

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/metrics.md"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def statistics(clock: Clock) -> Statistics:
    return Statistics(clock)


@pytest.fixture
def server(statistics: Statistics) -> Iterator[WebServer]:
    with WebServer("0") as made:
        serve_statistics(made, statistics, seconds=10)
        yield made


def frame(stream: StreamStatistics) -> None:
    stream.add("frames_in")
    stream.add("frames_out")


def test_metrics_and_json(server: WebServer, statistics: Statistics) -> None:
    frame(statistics.stream("a"))
    status, headers, body = ask(server, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'keyposs_frames_total{stream="a",what="in"} 1\n' in body
    status, headers, body = ask(server, "/stats.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["streams"][0]["counters"]["frames_in"] == 1


def test_names_that_are_no_text(server: WebServer, statistics: Statistics) -> None:
    frame(statistics.stream("caf\udce9.mp4"))  # a file name of another encoding
    assert b'{stream="caf\\\\udce9.mp4",what="in"} 1\n' in ask(server, "/metrics")[2]
    assert json.loads(ask(server, "/stats.json")[2])["streams"][0]["name"] == "caf\udce9.mp4"
    assert ask(server, "/health")[0] == 200


def test_the_page_of_the_documentation_is_complete(statistics: Statistics) -> None:
    stream = statistics.stream("a")
    frame(stream)
    for stage in STAGES:
        stream.time(stage, 0.1)
    stream.queue("q", 1, 2)
    tree = statistics.snapshot()
    tree["process"]["gpus"] = [{"name": "x", "used_bytes": 1, "total_bytes": 2}]
    metrics = set(re.findall(r"^# TYPE (\S+)", to_prometheus(tree), re.MULTILINE))
    known = DOCUMENT.read_text()
    named = {*keys_of(tree), *STAGES, *COUNTERS, *metrics} - {"a", "q"}
    assert len(named) > 60
    assert sorted(name for name in named if f"`{name}" not in known) == []


def keys_of(tree: object) -> set[str]:
    if isinstance(tree, dict):
        return set(tree).union(*map(keys_of, tree.values()))
    return set().union(*map(keys_of, tree)) if isinstance(tree, list) else set()


def test_health_over_http_turns_ill_and_well(server: WebServer, statistics: Statistics, clock: Clock) -> None:
    def look() -> tuple[int, list[str]]:
        status, _, body = ask(server, "/health")
        tree = json.loads(body)
        assert tree["healthy"] == (status == 200)
        return status, tree["problems"]

    assert look() == (503, ["no stream is running"])
    a, b = statistics.stream("a"), statistics.stream("b")
    assert look() == (200, [])
    clock.now = 11
    frame(a)
    assert look() == (503, ["b: no frame yet after 11 s"])
    frame(b)
    assert look() == (200, [])
    clock.now = 22.5
    frame(b)
    a.state("lost")
    assert look() == (503, ["a: no frame for 12 s, the source is lost"])
    a.state("running")
    frame(a)
    assert look() == (200, [])
    a.state("ended")
    clock.now = 30
    frame(b)
    clock.now = 39
    assert look() == (200, [])
    b.state("ended")
    assert look() == (503, ["no stream is running"])


def test_frames_that_come_and_are_not_finished(statistics: Statistics, clock: Clock) -> None:
    stream = statistics.stream("a")
    frame(stream)
    clock.now = 12
    stream.add("frames_in")
    assert health(statistics.snapshot())["problems"] == ["a: frames come, but none was finished for 12 s"]
    assert health(statistics.snapshot(), 20)["healthy"]


def test_frames_that_all_fail_and_streams_that_end_by_an_error(statistics: Statistics) -> None:
    stream = statistics.stream("a")
    for _ in range(5):
        frame(stream)
        stream.add("frames_failed")
    assert health(statistics.snapshot())["problems"] == ["a: every frame fails"]
    frame(stream)
    assert health(statistics.snapshot())["healthy"]
    stream.state("failed")
    found = health(statistics.snapshot())
    assert found["problems"] == ["a: it ended by an error", "no stream is running"]
    assert found["streams"] == [{"name": "a", "state": "failed", "problem": "it ended by an error"}]
