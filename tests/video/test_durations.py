"""Histograms of durations: percentiles near the true ones, windows that move on, memory that stays."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from keyposs_trt.video.durations import GROWTH, MINUTE, Durations, Tally


def test_percentiles_are_near_those_of_the_durations() -> None:
    seconds = np.random.default_rng(1).lognormal(math.log(8e-3), 0.7, 20_000)
    tally = Tally()
    for each in seconds.tolist():
        tally.add(each)
    for share in (0.01, 0.5, 0.9, 0.99):
        assert tally.percentile(share) == pytest.approx(np.percentile(seconds, 100 * share), rel=GROWTH - 1)
    assert tally.percentile(1) == tally.largest == seconds.max()
    assert tally.seconds == pytest.approx(seconds.sum())
    assert tally.count == len(seconds)


def test_what_is_no_duration_does_no_harm() -> None:
    tally = Tally()
    for seconds in (math.nan, -1.0, math.inf, 0.0, 1e-9, 5e3):
        tally.add(seconds)
    assert tally.count == sum(tally.counts) == 6
    assert tally.seconds == pytest.approx(5e3)
    assert tally.percentile(0.5) == pytest.approx(1e-6, rel=0.02)


@pytest.mark.parametrize("seconds", [1.01e-6, 0.5, 99.9, 100.0, 1e4])
def test_every_duration_has_its_bucket(seconds: float) -> None:
    tally = Tally()
    for each in (seconds, 2e5):
        tally.add(each)
    assert tally.percentile(0.5) == pytest.approx(min(seconds, 100), rel=0.02)


def test_nothing_counted() -> None:
    assert Tally().percentile(0.5) is None
    assert Tally().to_json() == {"count": 0, "mean_ms": None, "p50_ms": None, "p90_ms": None, "p99_ms": None, "max_ms": None}


def test_one_duration_is_every_percentile() -> None:
    tally = Tally()
    tally.add(0.02)
    found = tally.to_json()
    assert found["mean_ms"] == found["max_ms"] == 20
    assert [found[f"p{share}_ms"] for share in (50, 90, 99)] == pytest.approx([20, 20, 20], rel=0.02)


def test_a_sum_holds_both() -> None:
    a, b = Tally(), Tally()
    a.add(0.001)
    b.add(0.1)
    both = a + b
    assert (both.count, both.seconds, both.largest) == (2, pytest.approx(0.101), 0.1)
    assert both.percentile(0.5) == pytest.approx(0.001, rel=0.02)
    assert (a.count, b.count) == (1, 1)


def test_the_window_forgets_and_the_total_does_not() -> None:
    durations = Durations(0.0)
    durations.add(1.0, 0.0)
    for now, window in ((MINUTE - 1, 1), (MINUTE + 1, 1), (2 * MINUTE + 2, 0)):
        recent, total = durations.tallies(now)
        assert (recent.count, total.count) == (window, 1)
    durations.add(0.5, 2 * MINUTE + 3)
    recent, total = durations.tallies(2 * MINUTE + 3)
    assert (recent.largest, total.largest) == (0.5, 1.0)
    recent, total = durations.tallies(9 * MINUTE)
    assert (recent.count, total.count) == (0, 2)


def test_copies_do_not_change() -> None:
    durations = Durations(0.0)
    durations.add(1.0, 0.0)
    recent, total = durations.tallies(1.0)
    durations.add(1.0, 2.0)
    assert (recent.count, total.count, sum(recent.counts)) == (1, 1, 1)


def test_the_size_does_not_depend_on_how_many_there_were() -> None:
    durations = Durations(0.0)
    durations.add(1.0, 0.0)

    def size() -> int:
        return sum(sys.getsizeof(tally.counts) for tally in durations.tallies(now))

    now = 0.0
    before = size()
    for i in range(50_000):
        now = i / 30  # half an hour: the minutes change
        durations.add(1e-4 * (1 + i % 100), now)
    assert size() == before
    assert durations.tallies(now)[1].count == 50_001
