"""Laps and percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from bench_tools import FakeClock

from keyposs_trt.bench.stopwatch import Percentiles, Stopwatch, once
from keyposs_trt.errors import UsageError


def test_laps_of_one_name_are_added_up_and_skipped_time_is_nobodys():
    clock = FakeClock()
    watch = Stopwatch(clock)
    clock.spend(4)
    watch.lap("a")
    watch.lap("b")
    clock.spend(100)
    watch.skip()
    clock.spend(6)
    watch.lap("a")
    assert watch.seconds == {"a": 5 + 7, "b": 1}


def test_once():
    clock = FakeClock()
    assert once(lambda: clock.spend(2) or "done", clock) == (3, "done")


def test_percentiles_in_milliseconds():
    found = Percentiles.of([i / 1000 for i in range(101)])
    assert (found.p50, found.p90, found.p99, found.mean, found.least, found.count) == pytest.approx((50, 90, 99, 50, 0, 101))
    assert Percentiles.of([0.004]).p99 == 4
    assert Percentiles.of([0.001, 0.002]).p50 == pytest.approx(1.5)


def test_order_does_not_matter():
    seconds = np.random.default_rng(0).random(50)
    first, second = Percentiles.of(seconds.tolist()), Percentiles.of(sorted(seconds.tolist()))
    assert first.to_json() == second.to_json()


def test_rate_is_at_the_median():
    found = Percentiles.of([0.008] * 9 + [1.0])
    assert found.rate() == pytest.approx(125)
    assert found.rate(4) == pytest.approx(500)
    assert Percentiles.of([0.0]).rate() == float("inf")


def test_json_is_rounded():
    assert Percentiles.of([0.00123456789]).to_json() == dict.fromkeys(("p50", "p90", "p99", "mean", "least"), 1.2346) | {"count": 1}


def test_nothing_measured():
    with pytest.raises(UsageError, match="at least one measurement"):
        Percentiles.of([])
