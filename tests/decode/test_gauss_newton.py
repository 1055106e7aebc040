from __future__ import annotations

import numpy as np
import pytest
from odd_maps import gaussians, odd_maps

from keyposs_trt.decode.gauss_newton import gn, measure_ranges, squared_ranges
from keyposs_trt.decode.peaks import find_peaks
from keyposs_trt.errors import UsageError

SIZES = (64, 32, 16, 8, 4)


@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_the_plain_loop(loops, size, noisy):
    """Also where the steps diverge, as on most 4x4 maps."""
    maps = noisy(40, size, seed=size)
    np.testing.assert_allclose(gn(maps).points, loops.loop(loops.gn, maps), atol=1e-5)


def test_agrees_with_the_plain_loop_for_another_sigma_and_count(loops, noisy):
    maps = noisy(30, 32, seed=5)
    expected = [loops.gn(m, sigma=1.5, anchors=12) for m in maps]
    np.testing.assert_allclose(gn(maps, sigma=1.5, anchors=12).points, expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_exact_on_clean_gaussians_of_amplitude_one(size):
    points = np.random.default_rng(1).uniform(0, size - 1, (50, 2))
    decoded = gn(gaussians(points, size))
    np.testing.assert_allclose(decoded.points, points, atol=1e-4)
    assert decoded.covariance is None
    assert decoded.scores.min() > 0.9


def test_takes_a_low_amplitude_for_distance():
    points = np.random.default_rng(2).uniform(8, 24, (50, 2))
    errors = [np.abs(gn(a * gaussians(points, 32)).points - points).mean() for a in (1, 0.8, 0.5)]
    assert errors[0] < 1e-4
    assert errors[1] > 0.02
    assert errors[2] > errors[1]


def test_range_of_a_value():
    np.testing.assert_allclose(squared_ranges(np.array([np.exp(-9 / 8), 1, 5, 0, -1, 1e-12]), 2.0), [9, 0, 0] + [-8 * np.log(1e-9)] * 3)
    assert np.isnan(squared_ranges(np.array([np.nan]), 2.0)).all()


@pytest.mark.parametrize(
    ("shape", "count"), [((64, 64), 30), ((16, 16), 30), ((12, 40), 15), ((8, 8), 15), ((7, 9), 10), ((3, 3), 9), ((1, 2), 2)]
)
def test_number_of_anchors(shape, count):
    assert measure_ranges(find_peaks(np.random.default_rng(0).uniform(size=(2, *shape))), 2.0).x.shape == (2, count)


def test_anchors_are_the_largest_values_and_of_equal_ones_the_first():
    h = np.full((1, 4, 5), 0.5)
    h[0, 3, 4], h[0, 2, 2], h[0, 0, 1] = 0.9, 0.8, 0.1
    ranges = measure_ranges(find_peaks(h), 2.0, anchors=5)
    np.testing.assert_array_equal(np.stack([ranges.x[0] + 4, ranges.y[0] + 3], -1), [[0, 0], [2, 0], [3, 0], [2, 2], [4, 3]])


def test_what_is_no_measurement_is_no_anchor():
    points = np.random.default_rng(3).uniform(1, 3, (20, 2))
    maps = gaussians(points, 4)
    maps[:, 0] = np.nan
    maps[:, :, 0] = -np.inf  # 9 pixels are left for 10 anchors
    np.testing.assert_allclose(gn(maps).points, points, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (1, 2)])
def test_maps_of_one_line_give_the_argmax(shape):
    maps = np.random.default_rng(4).uniform(0.1, 1, (20, *shape))
    index = maps.reshape(20, -1).argmax(-1)
    np.testing.assert_array_equal(gn(maps).points, np.stack([index % shape[1], index // shape[1]], -1))


@pytest.mark.parametrize("kind", ["negative", "zero", "all nan", "lines", "one pixel"])
def test_degenerate_maps_stay_finite(kind):
    decoded = gn(odd_maps(8)[kind])
    assert np.isfinite(decoded.points).all()
    if kind in ("negative", "zero", "all nan"):
        assert (decoded.points == decoded.points.round()).all()


@pytest.mark.parametrize("wrong", [{"anchors": 2}, {"anchors": 4.5}, {"anchors": np.nan}, {"sigma": 0}, {"sigma": np.nan}, {"sigma": 1e9}])
def test_parameters_without_sense_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        gn(np.zeros((4, 4)), **wrong)
