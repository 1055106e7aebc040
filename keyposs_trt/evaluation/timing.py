"""How long models take from crops to landmarks, and what energy that needs. They take turns: the machine's moods fall on all alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.evaluation.power import find_sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from keyposs_trt.engine.runner import Runner

REPEAT, WARM_UP = 100, 5
BATCH = 8  # faces in a call, for throughput
_SECONDS = 2.0  # of work for a reading of energy, as counters move a few times a second alone


@dataclass(frozen=True)
class Timing:
    """The model alone: crops in memory to landmarks in memory, copies to and from a GPU included.

    Attributes:
        p50, p90, p99: milliseconds for one face.
        throughput: faces a second, eight in a call, at the median.
        repeat: number of calls of one face.
        joules: for one face, eight in a call; None where there is no sensor.
        power: what the sensor measures, or why there is none.
    """

    p50: float
    p90: float
    p99: float
    throughput: float
    repeat: int
    joules: float | None
    power: str


def time_runners(
    runners: Mapping[str, Runner],
    crops: Mapping[str, NDArray[np.uint8]],
    repeat: int = REPEAT,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Times open models.

    Args:
        runners: by any name.
        crops: [N, S, S, 3] uint8 RGB of each, N at least 1.
        repeat: calls of one face; those of eight are an eighth of that.
        tick: called after every round of all models.
    """
    batches = {name: np.resize(faces, (BATCH, *faces.shape[1:])) for name, faces in crops.items()}
    single: dict[str, list[float]] = {name: [] for name in runners}
    several: dict[str, list[float]] = {name: [] for name in runners}
    for i in range(-WARM_UP, repeat):
        for name, runner in runners.items():
            faces = crops[name]
            one = _seconds(runner, faces[i % len(faces)][None])
            many = _seconds(runner, batches[name]) if i % BATCH == 0 else None
            if i >= 0:
                single[name].append(one)
                several[name] += [] if many is None else [many]
        tick()
    found = {}
    for name, runner in runners.items():
        p50, p90, p99 = (1e3 * np.percentile(single[name], [50, 90, 99])).tolist()
        joules, power = _joules(runner, batches[name])
        found[name] = Timing(p50, p90, p99, BATCH / float(np.median(several[name])), repeat, joules, power)
    return found


def _seconds(runner: Runner, crops: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    runner(crops)
    return time.perf_counter() - start


def _joules(runner: Runner, crops: NDArray[np.uint8]) -> tuple[float | None, str]:
    """Joules a face, and what was measured or why nothing was."""
    sensor, reason = find_sensor(gpu=runner.backend != "onnxruntime")
    if sensor is None:
        return None, reason
    calls = 0

    def work() -> None:
        nonlocal calls
        end = time.perf_counter() + _SECONDS
        while time.perf_counter() < end:
            runner(crops)
            calls += 1

    used = sensor.measure(work)
    return used / (calls * len(crops)), sensor.name
