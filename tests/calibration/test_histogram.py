from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.calibration.histogram import BINS, Histogram
from keyposs_trt.errors import DataError


def filled(*arrays: np.ndarray) -> Histogram:
    histogram = Histogram()
    for array in arrays:
        histogram.add(np.asarray(array, np.float32))
    return histogram


def test_counts_zeros_and_the_largest():
    found = filled([0.0, -3.0, 1.0, 0.0, 2.5])
    assert (found.total, found.zeros, found.largest, found.lowest) == (5, 2, 3.0, -3.0)
    assert found.counts.sum() == 3
    # 3 < 4 = 4096 * 2^-10: bins of 2^-10, the smallest that hold it.
    assert found.width == 2.0**-10
    assert np.flatnonzero(found.counts).tolist() == [1024, 2560, 3072]


def test_order_batches_and_growth_make_no_difference():
    rng = np.random.default_rng(0)
    values = (rng.normal(size=20_000) * np.exp(rng.normal(0, 3, 20_000))).astype(np.float32)
    whole = filled(values)
    for order in (np.sort(values), -np.sort(-np.abs(values)) * 0 + values[::-1], rng.permutation(values)):
        parts = filled(*np.array_split(order, 37))
        assert (parts.exponent, parts.zeros, parts.largest, parts.lowest) == (whole.exponent, whole.zeros, whole.largest, whole.lowest)
        np.testing.assert_array_equal(parts.counts, whole.counts)


def test_the_bins_are_those_of_numpy():
    values = np.abs(np.random.default_rng(1).normal(size=5000)).astype(np.float32)
    found = filled(values)
    np.testing.assert_array_equal(found.counts, np.histogram(values, BINS, (0, BINS * found.width))[0])


def test_a_value_that_dwarfs_all_before():
    found = filled([1e-6, 2e-6], [1e6])
    assert found.counts[0] == 2
    assert found.counts.sum() == 3


def test_powers_of_two_fall_into_the_same_bin_early_or_late():
    early, late = filled([4.0], [8.0]), filled([8.0], [4.0])
    np.testing.assert_array_equal(early.counts, late.counts)


def test_no_numbers():
    with pytest.raises(DataError, match=r"no numbers in 'layer 3'; its weights are broken"):
        Histogram().add(np.array([1, np.nan], np.float32), "layer 3")
    with pytest.raises(DataError):
        Histogram().add(np.array([np.inf], np.float32))
    Histogram().add(np.zeros((0,), np.float32))
