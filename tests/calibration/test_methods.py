from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.calibration.histogram import Histogram
from keyposs_trt.calibration.methods import METHODS, range_of
from keyposs_trt.errors import UsageError

RNG = np.random.default_rng(0)


def histogram_of(values: np.ndarray) -> Histogram:
    found = Histogram()
    found.add(values.astype(np.float32))
    return found


NORMAL = RNG.normal(size=200_000)
OUTLIER = np.append(NORMAL, 60.0)


def rounding_error(values: np.ndarray, limit: float) -> float:
    step = limit / 127
    return float(((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).mean())


def test_minmax_is_the_largest_magnitude():
    assert range_of(histogram_of(OUTLIER), "minmax") == 60
    assert range_of(histogram_of(np.array([-7.0, 3.0])), "minmax") == 7


def test_percentile_is_numpys_within_a_bin():
    histogram = histogram_of(OUTLIER)
    for p in (90.0, 99.0, 99.99):
        assert range_of(histogram, "percentile", p) == pytest.approx(np.percentile(np.abs(OUTLIER), p), abs=2 * histogram.width)
    assert range_of(histogram, "percentile", 100) == 60


def test_zeros_count_in_the_percentile():
    values = np.concatenate([np.zeros(900), np.linspace(1, 2, 100)])
    assert range_of(histogram_of(values), "percentile", 95) == pytest.approx(1.5, abs=0.02)


@pytest.mark.parametrize("values", [NORMAL, np.maximum(NORMAL, 0), RNG.laplace(size=200_000), RNG.uniform(0, 6, 200_000)])
def test_mse_is_the_best_of_all_ranges(values):
    found = range_of(histogram_of(values), "mse")
    largest = np.abs(values).max()
    best = min(rounding_error(values, limit) for limit in np.linspace(0.1, 1, 150) * largest)
    assert rounding_error(values, found) <= 1.02 * best


def test_entropy_cuts_a_long_tail_and_keeps_a_full_range():
    assert range_of(histogram_of(OUTLIER), "entropy") < 8
    uniform = RNG.uniform(0, 6, 200_000)
    assert range_of(histogram_of(uniform), "entropy") > 5.5


def test_few_values_are_kept_whole():
    for method in ("minmax", "mse", "entropy"):
        assert range_of(histogram_of(np.array([0.5])), method) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_all_zeros(method):
    assert range_of(histogram_of(np.zeros(10)), method) == 0


def test_refused():
    with pytest.raises(UsageError, match="no calibration method 'max'; choose one of minmax, entropy, percentile, mse"):
        range_of(histogram_of(NORMAL), "max")
    with pytest.raises(UsageError, match=r"percentile must be from 50 to 100, not 0\.5"):
        range_of(histogram_of(NORMAL), "percentile", 0.5)
