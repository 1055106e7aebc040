"""The exposition format, by a parser as strict as its grammar."""

from __future__ import annotations

import math
import re

import pytest

from keyposs_trt.video.prometheus import to_prometheus
from keyposs_trt.video.statistics import Statistics

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? ([+-]?Inf|NaN|[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
SUFFIXES = {"counter": ("",), "gauge": ("",), "summary": ("", "_sum", "_count")}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), text)


def parse(text: str) -> tuple[dict[str, str], Samples]:
    """Kinds of the families and their samples; fails on anything the format does not allow."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    samples: Samples = {}
    helped, family = "", ""
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line):
            assert match[1] not in kinds, "a family stands in two places"
            helped = match[1]
        elif match := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|summary)", line):
            assert match[1] == helped, "TYPE without its HELP"
            family, kinds[match[1]] = match[1], match[2]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            assert match[1] in {family + suffix for suffix in SUFFIXES[kinds[family]]}, f"{match[1]} outside its family"
            labels = tuple(sorted((m[1], unescaped(m[2])) for m in re.finditer(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or "")))
            assert len({key for key, _ in labels}) == len(labels)
            assert ("quantile" in dict(labels)) == (kinds[family] == "summary" and match[1] == family)
            assert (match[1], labels) not in samples, "one sample twice"
            samples[match[1], labels] = float(match[3])
            assert kinds[family] != "counter" or (match[1].endswith("_total") and float(match[3]) >= 0)
    return kinds, samples


def value(samples: Samples, name: str, /, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


@pytest.mark.parametrize(
    "text",
    [
        "a 1",
        "# HELP a x\n# TYPE a gauge\na 1\nb 2\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"c\"d\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a x\n# TYPE a gauge\na nan\n",
    ],
)  # fmt: skip
def test_the_parser_can_fail(text: str) -> None:
    with pytest.raises(AssertionError):
        parse(text)


def test_everything_that_a_stream_counts() -> None:
    statistics = Statistics(lambda: 50.0)
    nasty = 'rtsp://a/"b\\c"\nd{e="f"},é'
    a, b = statistics.stream(nasty), statistics.stream("b")
    a.add("frames_in", 5)
    a.add("frames_dropped", 2)
    a.add("corrupt_frames", 3)
    a.add("gaps_seconds", 1e-7)
    a.add("faces", 4)
    a.queue("results", 2, 8)
    a.queue("results", 1, 8)
    for ms in (1, 2, 30):
        a.time("infer", ms / 1e3)
        a.time("latency", ms / 1e2)
    b.state("lost")
    tree = statistics.snapshot()
    tree["process"] |= {"gpus": [{"name": "NVIDIA Test", "used_bytes": 5, "total_bytes": 2**40}], "open_files": None}
    kinds, samples = parse(to_prometheus(tree))
    frames = {
        what: value(samples, "keyposs_frames_total", stream=nasty, what=what) for what in ("in", "out", "dropped", "failed", "corrupt")
    }
    assert frames == {"in": 5, "out": 0, "dropped": 2, "failed": 0, "corrupt": 3}
    assert value(samples, "keyposs_faces_total", stream=nasty) == 4
    assert value(samples, "keyposs_gap_seconds_total", stream=nasty) == 0  # to the millisecond
    assert value(samples, "keyposs_stage_seconds_sum", stream=nasty, stage="infer") == pytest.approx(0.033)
    assert value(samples, "keyposs_stage_seconds_count", stream=nasty, stage="infer") == 3
    assert value(samples, "keyposs_stage_seconds", stream=nasty, stage="infer", quantile="0.5") == pytest.approx(0.002, rel=0.02)
    assert value(samples, "keyposs_latency_seconds", stream=nasty, quantile="0.99") == pytest.approx(0.3, rel=0.02)
    assert value(samples, "keyposs_queue_depth", stream=nasty, queue="results") == 1
    assert value(samples, "keyposs_queue_depth_max", stream=nasty, queue="results") == 2
    assert value(samples, "keyposs_queue_size", stream=nasty, queue="results") == 8
    assert value(samples, "keyposs_last_frame_age_seconds", stream=nasty, what="in") == 0
    assert value(samples, "keyposs_stream_state", stream="b", state="lost") == 1
    assert value(samples, "keyposs_stream_state", stream="b", state="running") == 0
    assert value(samples, "keyposs_gpu_memory_bytes", gpu="0", name="NVIDIA Test") == 2**40
    assert ("process_open_fds", ()) not in samples
    assert kinds["keyposs_stage_seconds"] == kinds["keyposs_latency_seconds"] == "summary"
    assert kinds["keyposs_frames_total"] == "counter"


def test_quantiles_of_a_quiet_time_are_not_numbers() -> None:
    now = 0.0
    statistics = Statistics(lambda: now)
    statistics.stream("a").time("crop", 0.5)
    now = 1000.0
    _, samples = parse(to_prometheus(statistics.snapshot()))
    assert math.isnan(value(samples, "keyposs_stage_seconds", stream="a", stage="crop", quantile="0.5"))
    assert value(samples, "keyposs_stage_seconds_count", stream="a", stage="crop") == 1


def test_no_stream_and_an_unknown_state() -> None:
    kinds, _ = parse(to_prometheus(Statistics().snapshot()))
    assert "keyposs_build_info" in kinds
    assert "keyposs_frames_total" not in kinds
    statistics = Statistics()
    statistics.stream("a").state("warming up")
    _, samples = parse(to_prometheus(statistics.snapshot()))
    assert value(samples, "keyposs_stream_state", stream="a", state="warming up") == 1
