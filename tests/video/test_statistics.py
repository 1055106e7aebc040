"""Counters, rates, times and queues of streams, by a clock that the test winds."""

from __future__ import annotations

import json
import math
import threading
import tracemalloc

import pytest

from keyposs_trt.video.statistics import COUNTERS, STAGES, Rate, Statistics, StreamStatistics


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(stream: StreamStatistics, clock: Clock, frames: int, fps: float = 30.0, faces: int = 1) -> None:
    for _ in range(frames):
        clock.now += 1 / fps
        stream.add("frames_in")
        stream.add("faces", faces)
        stream.time("infer", 0.0036)
        stream.time("latency", 0.018)
        stream.add("frames_out")


def test_a_new_stream(clock: Clock) -> None:
    statistics = Statistics(clock)
    tree = statistics.stream("a.mp4").snapshot()
    assert tree["state"] == "starting"
    assert tree["counters"] == dict.fromkeys(COUNTERS, 0)
    assert (tree["fps_in"], tree["fps_out"], tree["faces"], tree["stages"], tree["queues"]) == (0, 0, 0, {}, {})
    assert (tree["seconds_since_in"], tree["seconds_since_out"]) == (None, None)


def test_two_streams_of_one_name(clock: Clock) -> None:
    statistics = Statistics(clock)
    names = [statistics.stream(name).name for name in ("a", "b", "a", "a", "a#2")]
    assert names == ["a", "b", "a#2", "a#3", "a#2#2"]
    assert [stream.name for stream in statistics.streams] == names


def test_a_stream_that_runs(clock: Clock) -> None:
    stream = Statistics(clock).stream("camera:0")
    run(stream, clock, 300, faces=2)
    stream.add("frames_dropped", 7)
    stream.add("gaps_seconds", 1.25)
    stream.queue("results", 3, 4)
    stream.queue("results", 1, 4)
    last = clock.now
    clock.now += 0.5
    tree = stream.snapshot()
    assert tree["state"] == "running"
    assert stream.last_frame == last
    assert tree["seconds_since_in"] == tree["seconds_since_out"] == 0.5
    assert tree["counters"]["frames_in"] == tree["counters"]["frames_out"] == 300
    assert (tree["counters"]["frames_dropped"], tree["counters"]["faces"], tree["counters"]["gaps_seconds"]) == (7, 600, 1.25)
    assert tree["queues"] == {"results": {"depth": 1, "size": 4, "largest": 3}}
    assert tree["faces"] == 2
    assert list(tree["stages"]) == ["infer", "latency"]
    assert tree["stages"]["infer"]["recent"]["p50_ms"] == pytest.approx(3.6, rel=0.02)
    assert tree["stages"]["latency"]["total"]["count"] == 300
    assert tree["stages"]["latency"]["seconds"] == pytest.approx(300 * 0.018)


def test_unknown_counters_are_mistakes(clock: Clock) -> None:
    with pytest.raises(KeyError):
        Statistics(clock).stream("a").add("frames_inn")  # type: ignore[arg-type]


@pytest.mark.parametrize("fps", [0.5, 2.0, 29.97, 120.0, 5000.0])
def test_rate(fps: float) -> None:
    rate, now = Rate(), 50.0
    assert rate(now) == 0
    for _ in range(int(12 * fps)):
        now += 1 / fps
        rate.add(1, now)
    assert rate(now) == pytest.approx(fps, rel=1e-6)
    assert rate(now + 0.9 / fps) == pytest.approx(fps, rel=1e-6)  # the next one is not overdue yet
    assert rate(now + max(2.5, 1.5 / fps)) < 0.9 * fps
    assert rate(now + 5.1) == 0


def test_rate_of_batches_and_of_few() -> None:
    rate = Rate()
    rate.add(1, 10.0)
    assert rate(10.1) == 0.2
    for i in range(40):
        rate.add(8, 20 + i / 10)
    assert rate(24.0) == pytest.approx(80, rel=0.01)


def test_names_are_complete() -> None:
    assert STAGES == ("capture", "detect", "crop", "infer", "track", "draw", "write", "latency")
    assert len(COUNTERS) == 10


def test_failing_frames_are_seen(clock: Clock) -> None:
    stream = Statistics(clock).stream("a")
    for _ in range(10):
        clock.now += 0.03
        stream.add("frames_in")
        stream.add("frames_out")
        stream.add("frames_failed")
    assert stream.snapshot()["all_fail"] is True
    stream.add("frames_out")
    assert stream.snapshot()["all_fail"] is False


def test_snapshot_is_json(clock: Clock) -> None:
    statistics = Statistics(clock)
    run(statistics.stream("a"), clock, 3)
    clock.now += 9
    tree = json.loads(json.dumps(statistics.snapshot(), allow_nan=False))
    assert tree["schema"] == 1
    assert tree["tool"].startswith("keyposs-trt ")
    assert tree["uptime_seconds"] == pytest.approx(9.1)
    assert set(tree["process"]) == {"rss_bytes", "open_files", "threads", "cpu_seconds", "gpus"}
    assert [stream["name"] for stream in tree["streams"]] == ["a"]


def test_line(clock: Clock) -> None:
    statistics = Statistics(clock)
    assert statistics.line() == "0 streams  0.0 fps in  0.0 out  0 dropped  0.0 faces"
    streams = [statistics.stream(name) for name in "abc"]
    for _ in range(60):
        clock.now += 1 / 30
        for stream in streams:
            run(stream, clock, 1, fps=math.inf)
    streams[1].queue("results", 1, 4)
    for i, stream in enumerate(streams):
        for _ in range(60):
            stream.time("latency", 0.030 + i * 0.001)
    assert statistics.line() == "3 streams  90.0 fps in  90.0 out  0 dropped  1.0 faces  latency 18/32/32 ms  net 3.6 ms  queue 1"
    assert streams[0].line() == "a: 30.0 fps in  30.0 out  0 dropped  1.0 faces  latency 18/30/30 ms  net 3.6 ms"


def test_line_names_troubles_and_counts_what_runs(clock: Clock) -> None:
    statistics = Statistics(clock)
    a, b = statistics.stream("a"), statistics.stream("b")
    a.state("lost")
    a.add("corrupt_frames", 3)
    a.add("reconnects")
    b.state("ended")
    b.add("sink_errors", 2)
    assert statistics.line() == "1 stream  0.0 fps in  0.0 out  0 dropped  0.0 faces  1 lost  3 corrupt  1 reconnects  2 sink errors"


def test_updates_from_many_threads_are_all_counted() -> None:
    stream = Statistics().stream("a")

    def work() -> None:
        for _ in range(2000):
            stream.add("frames_in")
            stream.time("crop", 1e-3)
            stream.queue("q", 1, 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stream.snapshot()
    tree = stream.snapshot()
    assert tree["counters"]["frames_in"] == tree["stages"]["crop"]["total"]["count"] == 8000


def test_memory_is_flat_over_a_million_updates(clock: Clock) -> None:
    stream = Statistics(clock).stream("a")

    def work(frames: int) -> None:
        for i in range(frames):
            clock.now += 1e-2
            stream.add("frames_in")
            stream.add("frames_out")
            stream.queue("results", i & 3, 4)
            stream.time("infer", 1e-6 * (i & 0xFFFF))

    work(20_000)  # three minutes: everything that grows has grown
    stream.snapshot()
    tracemalloc.start()
    try:
        work(1000)
        before = tracemalloc.get_traced_memory()[0]
        work(9000)
        assert tracemalloc.get_traced_memory()[0] - before < 32_000
    finally:
        tracemalloc.stop()
    work(220_000)
    tree = stream.snapshot()
    assert tree["stages"]["infer"]["total"]["count"] == 250_000
    assert tree["stages"]["infer"]["recent"]["count"] <= 12_001
