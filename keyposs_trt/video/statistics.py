"""Figures of running streams: counters, rates, times by stage and queues, in memory that does not grow.

An update costs about a microsecond, and is safe from any thread. docs/metrics.md says what each figure means.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, get_args

from keyposs_trt.video.durations import Durations, Tally
from keyposs_trt.video.usage import GpuMemory, process_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Counter = Literal[
    "frames_in", "frames_out", "frames_dropped", "frames_failed", "faces", "detections", "reconnects", "corrupt_frames", "sink_errors",
    "gaps_seconds",
]  # fmt: skip
Stage = Literal["capture", "detect", "crop", "infer", "track", "draw", "write", "latency"]

COUNTERS: tuple[Counter, ...] = get_args(Counter)
STAGES: tuple[Stage, ...] = get_args(Stage)
SCHEMA = 1
RATED: tuple[Counter, ...] = ("frames_in", "frames_out", "frames_failed", "faces")  # those with a rate over the last seconds
OVER = ("ended", "failed")  # the states of a stream that gives nothing more
KEPT = 32  # streams that have ended
RATE_WINDOW = 5.0  # seconds

_SLOT = 0.5  # seconds


@dataclass(slots=True)
class _Slot:
    """What came in half a second: time of the first, how many came with it, how many in all, and in how many portions."""

    first: float
    with_first: float
    total: float = 0.0
    times: int = 0


class Rate:
    """How many a second, over the last ``RATE_WINDOW`` seconds. Not thread-safe."""

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque(maxlen=round(RATE_WINDOW / _SLOT))
        self._last = 0.0

    def add(self, n: float, now: float) -> None:
        """Counts ``n`` that came ``now``."""
        slots = self._slots
        if not slots or now - slots[-1].first >= _SLOT:
            slots.append(_Slot(now, n))
        slot = slots[-1]
        slot.total += n
        slot.times += 1
        self._last = now

    def count(self, now: float) -> float:
        """How many there were."""
        return sum(slot.total for slot in self._slots if now - slot.first < RATE_WINDOW)

    def __call__(self, now: float) -> float:
        """How many a second; falls when the next one is overdue, and is 0 after ``RATE_WINDOW`` without any."""
        slots = [slot for slot in self._slots if now - slot.first < RATE_WINDOW]
        if not slots:
            return 0.0
        total, times = sum(slot.total for slot in slots), sum(slot.times for slot in slots)
        span = self._last - slots[0].first
        if times < 2 or span <= 0:
            return total / RATE_WINDOW
        return (total - slots[0].with_first) / max(span, now - slots[0].first - span / (times - 1))


class StreamStatistics:
    """Figures of one stream; made by ``Statistics.stream``.

    Attributes:
        name: of the source, with ``#2`` for a second stream of the same name.
    """

    def __init__(self, name: str, clock: Callable[[], float], sources: int = 1) -> None:
        self.name = name
        self._clock = clock
        self._left = sources  # that have not ended
        self._lock = threading.Lock()
        self._state = "starting"
        self._counters: dict[str, float] = dict.fromkeys(COUNTERS, 0)
        self._rates = {counter: Rate() for counter in RATED}
        self._stages: dict[str, Durations] = {}
        self._queues: dict[str, dict[str, int]] = {}
        self._began = clock()
        self._last: dict[str, float] = {}

    def add(self, counter: Counter, n: float = 1) -> None:
        """Counts ``n`` more.

        Raises:
            KeyError: there is no such counter.
        """
        now = self._clock()
        with self._lock:
            self._counters[counter] += n
            rate = self._rates.get(counter)
            if rate is not None:
                rate.add(n, now)
                self._last[counter] = now
                if self._state == "starting" and counter == "frames_in":
                    self._state = "running"

    def time(self, stage: Stage, seconds: float) -> None:
        """Counts a stage that took ``seconds`` and has just ended; ``latency`` is from the capture of a frame to its written result."""
        now = self._clock()
        with self._lock:
            durations = self._stages.get(stage)
            if durations is None:
                durations = self._stages[stage] = Durations(now)
            durations.add(seconds, now)

    def queue(self, name: str, depth: int, size: int) -> None:
        """How many frames wait in a queue that holds ``size``."""
        with self._lock:
            known = self._queues.get(name)
            largest = depth if known is None else max(depth, known["largest"])
            self._queues[name] = {"depth": depth, "size": size, "largest": largest}

    def state(self, text: str) -> None:
        """``running``, ``lost`` while it is away, ``ended``, or ``failed`` where it ended by an error."""
        with self._lock:
            if text in OVER:
                self._left -= 1
                if self._left > 0:  # others go on
                    return
                for queue in self._queues.values():
                    queue["depth"] = 0
            self._state = text

    def end(self) -> None:
        """Nothing more comes, whatever was expected."""
        self._left = 1
        if not self.over:
            self.state("ended")

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self._state in OVER

    @property
    def last_frame(self) -> float | None:
        """Time of the clock when the newest frame came in; None before the first."""
        with self._lock:
            return self._last.get("frames_in")

    def snapshot(self) -> dict[str, Any]:
        """The figures of this stream, ready for JSON."""
        return self.read()[0]

    def read(self) -> tuple[dict[str, Any], dict[str, Tally]]:
        """The snapshot, and what it says of the last two minutes as histograms by stage, for figures of several streams."""
        with self._lock:
            now = self._clock()
            tallies = {stage: self._stages[stage].tallies(now) for stage in STAGES if stage in self._stages}
            rates = {counter: rate(now) for counter, rate in self._rates.items()}
            recent = {counter: rate.count(now) for counter, rate in self._rates.items()}
            tree: dict[str, Any] = {
                "name": self.name,
                "state": self._state,
                "seconds": round(now - self._began, 3),
                "seconds_since_in": self._since("frames_in", now),
                "seconds_since_out": self._since("frames_out", now),
                "counters": {key: round(n, 3) if isinstance(n, float) else n for key, n in self._counters.items()},
                "queues": {name: dict(queue) for name, queue in self._queues.items()},
            }
        tree |= {
            "fps_in": round(rates["frames_in"], 2),
            "fps_out": round(rates["frames_out"], 2),
            "faces": round(recent["faces"] / recent["frames_out"], 2) if recent["frames_out"] else 0.0,
            "all_fail": recent["frames_failed"] >= max(recent["frames_out"], 1),
            "stages": {
                stage: {"seconds": round(total.seconds, 6), "recent": window.to_json(), "total": total.to_json()}
                for stage, (window, total) in tallies.items()
            },
        }
        return tree, {stage: window for stage, (window, _) in tallies.items()}

    def line(self) -> str:
        """The figures of this stream in one line for a reader."""
        tree, recent = self.read()
        return f"{self.name}: {_line([tree], [recent])}"

    def _since(self, counter: Counter, now: float) -> float | None:
        last = self._last.get(counter)
        return None if last is None else round(max(now - last, 0.0), 3)


class Statistics:
    """Figures of a pipeline and its streams.

    Args:
        clock: gives seconds and never goes back; another one than the computer's for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._streams: dict[str, StreamStatistics] = {}
        self._earlier: dict[str, float] = dict.fromkeys(("streams", *COUNTERS), 0)
        self._gpus: GpuMemory | None = None

    def stream(self, source_name: str, sources: int = 1) -> StreamStatistics:
        """A new stream, of a source or of several that have their figures together; a second one of the same name is called ``name#2``."""
        with self._lock:
            self._forget()
            name, n = source_name, 1
            while name in self._streams:
                n += 1
                name = f"{source_name}#{n}"
            stream = self._streams[name] = StreamStatistics(name, self._clock, sources)
            return stream

    def _forget(self) -> None:
        """Of thousands of files that have ended, only the last are kept one by one; of the others the sum."""
        over = [name for name, stream in self._streams.items() if stream.over]
        for name in over[: max(0, len(over) - KEPT)]:
            self._earlier["streams"] += 1
            for counter, n in self._streams.pop(name).snapshot()["counters"].items():
                self._earlier[counter] += n

    @property
    def streams(self) -> tuple[StreamStatistics, ...]:
        """All streams, in the order they were made."""
        with self._lock:
            return tuple(self._streams.values())

    def snapshot(self) -> dict[str, Any]:
        """Everything, ready for JSON; see docs/metrics.md."""
        from keyposs_trt import __version__

        with self._lock:
            if self._gpus is None:
                self._gpus = GpuMemory()
            gpus = self._gpus()
        return {
            "schema": SCHEMA,
            "tool": f"keyposs-trt {__version__}",
            "uptime_seconds": round(self._clock() - self._began, 3),
            "process": process_usage() | {"gpus": gpus},
            "streams": [stream.snapshot() for stream in self.streams],
            "earlier": {key: round(n, 3) if isinstance(n, float) else n for key, n in self._earlier.items()},
        }

    def line(self) -> str:
        """The figures of all streams together, in one line for a reader."""
        both = [stream.read() for stream in self.streams]
        running = sum(tree["state"] not in OVER for tree, _ in both) or len(both)
        word = "1 stream" if running == 1 else f"{running} streams"
        return f"{word}  {_line([tree for tree, _ in both], [recent for _, recent in both])}"


def _line(trees: Sequence[dict[str, Any]], recent: Sequence[dict[str, Tally]]) -> str:
    """What matters of some streams, added up; troubles are named only where there are some."""
    counters = {key: sum(tree["counters"][key] for tree in trees) for key in COUNTERS}
    fps_out = sum(tree["fps_out"] for tree in trees)
    faces = sum(tree["faces"] * tree["fps_out"] for tree in trees) / fps_out if fps_out else 0.0
    parts = [
        f"{sum(tree['fps_in'] for tree in trees):.1f} fps in",
        f"{fps_out:.1f} out",
        f"{counters['frames_dropped']} dropped",
        f"{faces:.1f} faces",
    ]
    latency, network = (_together([tallies[stage] for tallies in recent if stage in tallies]) for stage in ("latency", "infer"))
    if latency.count:
        times = "/".join(_ms(latency.percentile(share)) for share in (0.5, 0.9, 0.99))
        parts.append(f"latency {times} ms")
    if network.count:
        parts.append(f"net {_ms(network.percentile(0.5))} ms")
    depths = [queue["depth"] for tree in trees for queue in tree["queues"].values()]
    if depths:
        parts.append(f"queue {max(depths)}")
    lost = sum(tree["state"] == "lost" for tree in trees)
    troubles = {
        "lost": lost,
        "failed": counters["frames_failed"],
        "corrupt": counters["corrupt_frames"],
        "reconnects": counters["reconnects"],
        "sink errors": counters["sink_errors"],
    }
    return "  ".join(parts + [f"{n} {what}" for what, n in troubles.items() if n])


def _together(tallies: Sequence[Tally]) -> Tally:
    return reduce(Tally.__add__, tallies, Tally())


def _ms(seconds: float | None) -> str:
    ms = 1e3 * (seconds or 0.0)
    return f"{ms:.0f}" if ms >= 10 else f"{ms:.1f}"
