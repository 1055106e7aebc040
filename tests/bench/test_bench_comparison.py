"""Ratios of paired times."""

from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.bench.comparison import Ratio, ratio_of
from keyposs_trt.errors import UsageError


def moods(count: int = 200) -> np.ndarray:
    """Seconds on a machine that is now fast, now twice as slow."""
    rng = np.random.default_rng(1)
    return 0.01 * (1 + (np.arange(count) // 20 % 2)) * rng.uniform(0.98, 1.02, count)


def test_the_ratio_of_medians_and_its_interval():
    b = moods()
    found = ratio_of((1.2 * b).tolist(), b.tolist())
    assert found.value == pytest.approx(1.2)
    # Both of a pair met the same mood, so the moods do not widen the interval.
    assert (found.low, found.high) == (pytest.approx(1.2), pytest.approx(1.2))
    assert found.verdict == "slower"


def test_the_interval_holds_the_ratio_and_narrows_with_more_pairs():
    rng = np.random.default_rng(2)
    widths = []
    for count in (20, 2000):
        a, b = (rng.lognormal(0, 0.2, count) for _ in "ab")
        found = ratio_of(a.tolist(), b.tolist())
        assert found.low <= found.value <= found.high
        assert found.low < 1 < found.high
        assert found.verdict == "no difference shown"
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 4


def test_the_seed_is_fixed_and_order_of_the_models_turns_the_ratio_over():
    a, b = moods().tolist(), (0.9 * moods()[::-1]).tolist()
    assert ratio_of(a, b) == ratio_of(a, b)
    assert ratio_of(a, b).value == pytest.approx(1 / ratio_of(b, a).value)


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.8, 0.99, "faster"), (1.01, 1.2, "slower"), (0.99, 1.01, "no difference shown")])
def test_verdicts(low, high, verdict):
    assert Ratio(1.0, low, high).to_json() == {"ratio": 1.0, "low": low, "high": high, "verdict": verdict}


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_no_pairs(a, b):
    with pytest.raises(UsageError, match="needs pairs"):
        ratio_of(a, b)
