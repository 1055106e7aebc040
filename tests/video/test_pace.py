"""The time of a video follows the time stamps, and an even source is left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.video.pace import Pace


def shown(times: list[float], fps: float, live: bool = False) -> list[int]:
    """For each frame of the file, the number of the source's frame it shows."""
    pace, row, before = Pace(fps, live), [], -1
    for i, time in enumerate(times):
        repeats, wanted = pace(time)
        row += [before] * repeats + [i] * wanted
        before = i
    return row


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("fps", [1, 15, 24, 25, 29.97, 30, 59.94, 120])
@pytest.mark.parametrize("start", [0.0, 1234.5])
def test_an_even_source_gets_each_frame_once(fps: float, live: bool, start: float) -> None:
    generator = np.random.default_rng(0)
    jitter = generator.uniform(-0.35, 0.35, 20_000) / fps  # against each other and the first: 0.7
    times = [start + round(t, 3) for t in (np.arange(20_000) / fps + jitter).tolist()]
    assert shown(times, fps, live) == list(range(20_000))


def test_a_rate_that_the_file_holds_rounded() -> None:
    times = [i * 1001 / 30000 for i in range(200_000)]  # 29.97003
    row = shown(times, 29.97)
    assert abs(len(row) - 200_000) <= 1


@pytest.mark.parametrize("live", [False, True])
def test_uneven_time_stamps_are_followed_within_a_frame(live: bool) -> None:
    generator = np.random.default_rng(1)
    steps = generator.choice([0.005, 0.02, 0.04, 0.05, 0.3, 2.0], 3000, p=[0.2, 0.2, 0.2, 0.3, 0.09, 0.01])
    times = np.concatenate(([0.0], np.cumsum(steps))).tolist()
    fps = 25.0
    row = shown(times, fps, live)
    assert row == sorted(row)
    for slot, i in enumerate(row):
        now = slot / fps
        # The frame shown is there, give or take a frame, and not older than the next one allows.
        assert times[i] <= now + 1 / fps + 1e-9
        if i + 1 < len(times):
            assert times[i + 1] >= now - 1 / fps - 1e-9
    assert len(row) / fps == pytest.approx(times[-1], abs=2 / fps)


def test_gaps_are_filled_with_the_frame_before_and_crowds_are_thinned() -> None:
    assert shown([0, 0.01, 0.1, 0.4, 0.5], 10) == [0, 2, 2, 2, 3, 4]
    assert shown([0, 1, 2], 3) == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize(("live", "longest"), [(True, 10), (False, 600)])
def test_the_longest_gap(live: bool, longest: float) -> None:
    assert len(shown([0, longest, longest + 0.1], 10, live)) == longest * 10 + 2
    assert shown([0, longest + 1, longest + 1.1], 10, live) == [0, 1, 2]


def test_a_clock_that_is_set_back() -> None:
    assert shown([5000, 5000.1, 20, 20.1, 20.2], 10) == [0, 1, 2, 3, 4]
    assert shown([0, 0.1, 0.2, 0.15, 0.3], 10) == [0, 1, 2, 4]
