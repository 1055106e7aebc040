from __future__ import annotations

import numpy as np
import pytest
from odd_maps import gaussians

from keyposs_trt.decode.peaks import argmax, find_peaks, shift, soft_argmax
from keyposs_trt.errors import UsageError


def test_the_first_of_equal_maxima_in_row_major_order():
    maps = np.zeros((2, 3, 5))
    maps[0, 1, 3] = maps[0, 2, 0] = 0.5
    decoded = argmax(maps)
    np.testing.assert_array_equal(decoded.points, [[3, 1], [0, 0]])
    np.testing.assert_array_equal(decoded.scores, [0.5, 0])
    assert decoded.covariance is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20, -1e20, 1e300])
def test_what_is_no_measurement_is_never_the_peak(bad):
    maps = np.full((1, 4, 4), -2.0)
    maps[0, 0, 0], maps[0, 2, 1] = bad, -1
    peaks = find_peaks(maps)
    assert (peaks.x[0], peaks.y[0], peaks.value[0]) == (1, 2, -1)
    assert not peaks.usable[0, 0, 0]
    assert peaks.usable.sum() == 15


def test_the_largest_value_below_the_limit_is_a_measurement():
    assert find_peaks(np.array([[1.0, 9.9e19]])).x[0] == 1


def test_a_map_without_measurements_peaks_at_its_first_pixel():
    peaks = find_peaks(np.full((3, 3), np.nan))
    assert (peaks.x[0], peaks.y[0], peaks.value[0]) == (0, 0, 0)


def test_window_is_nan_beyond_the_border_and_where_nothing_was_measured():
    maps = np.arange(12.0).reshape(1, 3, 4)
    maps[0, 2, 2] = np.nan
    window = find_peaks(maps).window(1)  # around 11, the last pixel
    np.testing.assert_array_equal(window[0], [[6, 7, np.nan], [np.nan, 11, np.nan], [np.nan] * 3])


def test_offsets_that_are_not_finite_or_beyond_float32_leave_the_peak():
    peaks = find_peaks(np.eye(4)[:3, None])
    points = peaks.moved(np.array([[0.5, np.nan], [1e300, 0], [0.5, 0.25]])).points
    np.testing.assert_array_equal(points, [[0, 0], [1, 0], [2.5, 0.25]])


def test_shift_goes_towards_the_higher_neighbours():
    maps = np.zeros((1, 6, 7))
    maps[0, 3, 3], maps[0, 3, 4], maps[0, 2, 3] = 1, 0.2, 0.1
    np.testing.assert_array_equal(shift(maps).points, [[3.25, 2.75]])
    maps[0, 4, 3] = 0.1
    np.testing.assert_array_equal(shift(maps).points, [[3.25, 3]])  # equal neighbours
    np.testing.assert_array_equal(shift(maps - 2).points, [[3, 3]])  # not a positive peak


@pytest.mark.parametrize(
    ("x", "y", "published", "safe"), [(1, 3, 0, 0.25), (5, 3, 0.25, 0.25), (6, 3, 0, 0), (3, 1, 0, 0.25), (3, 0, 0, 0.25)]
)
def test_published_shift_spares_the_border(x, y, published, safe):
    maps = np.zeros((1, 6, 7))
    maps[0, y, x] = 1
    maps[0, y, x - 1] = 0.5
    assert shift(maps).points[0, 0] == x - published
    assert shift(maps, border_quirk=False).points[0, 0] == x - safe


def test_soft_argmax_is_the_mean_place():
    maps = np.zeros((1, 1, 4))
    maps[0, 0, 2] = np.log(3)
    np.testing.assert_allclose(soft_argmax(maps, beta=1).points, [[(0 + 1 + 3 * 2 + 3) / 6, 0]], rtol=1e-6)


def test_soft_argmax_between_middle_and_peak():
    maps = gaussians(np.array([[3.3, 11.6]]), 16)
    middle, peak = soft_argmax(maps, beta=1e-3).points, soft_argmax(maps, beta=1e6).points
    np.testing.assert_allclose(middle, [[7.5, 7.5]], atol=0.01)
    np.testing.assert_array_equal(peak, [[3, 12]])
    np.testing.assert_allclose(soft_argmax(maps).points, [[3.3, 11.6]], atol=0.1)


def test_soft_argmax_gives_no_weight_to_what_is_no_measurement():
    maps = np.full((1, 5, 5), np.nan)
    maps[0, 1, 2] = maps[0, 1, 4] = -0.5
    np.testing.assert_array_equal(soft_argmax(maps, beta=1e-3).points, [[3, 1]])


@pytest.mark.parametrize("beta", [0, -1, np.nan, np.inf])
def test_soft_argmax_refuses_other_betas(beta):
    with pytest.raises(UsageError, match="beta must be in"):
        soft_argmax(np.zeros((4, 4)), beta=beta)


@pytest.mark.parametrize("shape", [(4,), (3, 0, 4), (3, 4, 0)])
def test_maps_without_pixels_are_refused(shape):
    with pytest.raises(UsageError, match="at least one pixel"):
        argmax(np.zeros(shape))
