"""A snapshot of the statistics in Prometheus' text exposition format 0.0.4.

Names and labels follow Prometheus' conventions: base units, ``_total`` for counters, a summary for durations. The standard figures of a
process keep their standard names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STATES = ("starting", "running", "lost", "ended", "failed")
_FRAMES = {"in": "frames_in", "out": "frames_out", "dropped": "frames_dropped", "failed": "frames_failed", "corrupt": "corrupt_frames"}
_QUANTILES = {"0.5": "p50_ms", "0.9": "p90_ms", "0.99": "p99_ms"}


@dataclass
class _Family:
    """One metric: its samples stand together, behind what it is."""

    name: str
    kind: Literal["counter", "gauge", "summary"]
    text: str
    lines: list[str] = field(default_factory=list)

    def add(self, value: float | None, suffix: str = "", **labels: str) -> None:
        """One sample; nothing where the value is not known."""
        if value is None:
            return
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        self.lines.append(f"{self.name}{suffix}{{{inside}}} {_number(value)}" if inside else f"{self.name}{suffix} {_number(value)}")

    def __str__(self) -> str:
        if not self.lines:
            return ""
        return "\n".join((f"# HELP {self.name} {self.text}", f"# TYPE {self.name} {self.kind}", *self.lines)) + "\n"


def to_prometheus(snapshot: dict[str, Any]) -> str:
    """The text of ``/metrics``.

    Args:
        snapshot: what ``Statistics.snapshot`` gives.
    """
    return "".join(str(family) for family in (*_process(snapshot), *_streams(snapshot["streams"])))


def _process(snapshot: dict[str, Any]) -> list[_Family]:
    process = snapshot["process"]
    info = _Family("keyposs_build_info", "gauge", "Always 1; the label is the version.")
    info.add(1, version=snapshot["tool"].rpartition(" ")[2])
    uptime = _Family("keyposs_uptime_seconds", "gauge", "Time since the pipeline was made.")
    uptime.add(snapshot["uptime_seconds"])
    memory = _Family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
    memory.add(process["rss_bytes"])
    files = _Family("process_open_fds", "gauge", "Number of open file descriptors.")
    files.add(process["open_files"])
    threads = _Family("process_threads", "gauge", "Number of threads.")
    threads.add(process["threads"])
    cpu = _Family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
    cpu.add(process["cpu_seconds"])
    used = _Family("keyposs_gpu_memory_used_bytes", "gauge", "Memory of the GPU in use, by all processes.")
    total = _Family("keyposs_gpu_memory_bytes", "gauge", "Memory of the GPU.")
    for index, gpu in enumerate(process["gpus"] or ()):
        used.add(gpu["used_bytes"], gpu=str(index), name=gpu["name"])
        total.add(gpu["total_bytes"], gpu=str(index), name=gpu["name"])
    return [info, uptime, memory, files, threads, cpu, used, total]


def _streams(streams: list[dict[str, Any]]) -> list[_Family]:
    frames = _Family("keyposs_frames_total", "counter", "Frames, by what became of them.")
    counters = {
        "faces": _Family("keyposs_faces_total", "counter", "Faces in the results."),
        "detections": _Family("keyposs_detections_total", "counter", "Runs of the face detector."),
        "reconnects": _Family("keyposs_reconnects_total", "counter", "Times a lost source came back."),
        "sink_errors": _Family("keyposs_sink_errors_total", "counter", "Results that a sink could not take."),
        "gaps_seconds": _Family("keyposs_gap_seconds_total", "counter", "Time for which a source was lost."),
    }
    fps = _Family("keyposs_frames_per_second", "gauge", "Frames a second, over the last seconds.")
    age = _Family("keyposs_last_frame_age_seconds", "gauge", "Time since the newest frame came in or its result went out.")
    state = _Family("keyposs_stream_state", "gauge", "1 for the state the stream is in, 0 for the others.")
    latency = _Family("keyposs_latency_seconds", "summary", "From the capture of a frame to its written result; quantiles of two minutes.")
    stages = _Family("keyposs_stage_seconds", "summary", "Time a stage took; quantiles of the last two minutes.")
    depth = _Family("keyposs_queue_depth", "gauge", "Frames that wait in a queue.")
    largest = _Family("keyposs_queue_depth_max", "gauge", "Most frames that ever waited in a queue.")
    size = _Family("keyposs_queue_size", "gauge", "Frames a queue can hold.")
    for stream in streams:
        name = stream["name"]
        for what, counter in _FRAMES.items():
            frames.add(stream["counters"][counter], stream=name, what=what)
        for counter, family in counters.items():
            family.add(stream["counters"][counter], stream=name)
        for what in ("in", "out"):
            fps.add(stream[f"fps_{what}"], stream=name, what=what)
            age.add(stream[f"seconds_since_{what}"], stream=name, what=what)
        for text in dict.fromkeys((*_STATES, stream["state"])):
            state.add(int(text == stream["state"]), stream=name, state=text)
        for stage, times in stream["stages"].items():
            if stage == "latency":
                _summary(latency, times, stream=name)
            else:
                _summary(stages, times, stream=name, stage=stage)
        for queue, figures in stream["queues"].items():
            depth.add(figures["depth"], stream=name, queue=queue)
            largest.add(figures["largest"], stream=name, queue=queue)
            size.add(figures["size"], stream=name, queue=queue)
    return [frames, *counters.values(), fps, age, state, latency, stages, depth, largest, size]


def _summary(family: _Family, times: dict[str, Any], **labels: str) -> None:
    for quantile, key in _QUANTILES.items():
        ms = times["recent"][key]
        family.add(math.nan if ms is None else round(ms / 1e3, 9), **labels, quantile=quantile)
    family.add(times["seconds"], "_sum", **labels)
    family.add(times["total"]["count"], "_count", **labels)


def _escaped(text: str) -> str:
    """As a label's value; bytes of a file name that are no UTF-8 are written out."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    """As Go reads it: the shortest digits that give the value back."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
