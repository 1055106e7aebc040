from __future__ import annotations

import numpy as np
import pytest
from odd_maps import gaussians, odd_maps

from keyposs_trt.decode import wls
from keyposs_trt.decode.multilateration import HUGE, check_parameters, window_offsets
from keyposs_trt.errors import UsageError

SIZES = (64, 32, 16, 8, 4)


def slow_wls(h, sigma, radius, prior, floor):
    """One map, straight from the formulae, by numpy.linalg on the stacked system: a second opinion without the algebra."""
    height, width = h.shape
    row, col = np.unravel_index(np.argmax(h), h.shape)
    anchors = [
        (x - col, y - row, h[y, x])
        for y in range(row - radius, row + radius + 1)
        for x in range(col - radius, col + radius + 1)
        if 0 <= y < height and 0 <= x < width and h[y, x] > floor * h[row, col]
    ]
    dx, dy, v = np.array(anchors, float).T
    y, w = np.log(v / v.max()), (v / v.max()) ** 2
    X = np.stack([-(dx**2 + dy**2) / 2, dx, dy], 1)
    p = w / w.sum()
    X, y = X - p @ X, y - p @ y
    M, t = X.T @ (p[:, None] * X), X.T @ (p * y)
    ridge = prior * M[0, 0]
    M[0, 0] += ridge
    t[0] += ridge / sigma**2
    kappa = np.clip(np.linalg.solve(M, t)[0], 1 / (4 * sigma**2), 4 / sigma**2)
    g = np.linalg.solve(M[1:, 1:], t[1:] - M[1:, 0] * kappa)
    return np.array([col, row]) + np.clip(g / kappa, -radius, radius)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("sigma", "radius", "prior", "floor"), [(2, 3, 0.02, 0.05), (1.5, 2, 0.3, 0.1), (2, 4, 0.001, 0.01)])
def test_agrees_with_the_plain_normal_equations(size, sigma, radius, prior, floor):
    rng = np.random.default_rng(size)
    points = rng.uniform(-0.5, size - 0.5, (30, 2))
    maps = (0.7 * gaussians(points, size, rng.uniform(1.4, 3, 30)) + rng.normal(0, 0.02, (30, size, size))).astype(np.float32)
    found = wls(maps, sigma=sigma, radius=radius, prior=prior, floor=floor).points
    expected = [slow_wls(m.astype(float), sigma, radius, prior, floor) for m in maps]
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("amplitude", [1.0, 0.3, 1e-3])
def test_exact_on_clean_gaussians_of_any_amplitude(size, amplitude):
    points = np.random.default_rng(1).uniform(-0.5, size - 0.5, (50, 2))
    decoded = wls(amplitude * gaussians(points, size, 2.0))
    np.testing.assert_allclose(decoded.points, points, atol=1e-4)
    np.testing.assert_allclose(decoded.scores, amplitude, rtol=1e-4)
    assert decoded.covariance.max() < 1e-8


@pytest.mark.parametrize("sigma", [1.3, 1.7, 2.5, 3.2])
def test_calibrates_an_unknown_sigma(sigma):
    points = np.random.default_rng(2).uniform(8, 24, (50, 2))
    maps = gaussians(points, 32, sigma)
    free = np.abs(wls(maps, prior=0).points - points).max()
    known = np.abs(wls(maps, prior=np.inf).points - points).max()
    assert free < 0.01
    assert known > 10 * free


def test_infinite_prior_is_the_known_sigma_solver():
    points = np.random.default_rng(3).uniform(8, 24, (50, 2))
    np.testing.assert_allclose(wls(gaussians(points, 32, 1.6), sigma=1.6, prior=np.inf).points, points, atol=1e-4)


def test_landmarks_just_outside_the_anchors_are_reached():
    points = np.array([[-1.5, 10.0], [16.5, 17.0], [-0.9, -0.9]])
    np.testing.assert_allclose(wls(gaussians(points, 16)).points, points, atol=1e-3)


def test_shapes_and_types():
    maps = gaussians(np.full((6, 2), 5.0), 12)[:, :9].reshape(2, 3, 9, 12)
    for kind in (np.float16, np.float32, np.float64):
        decoded = wls(maps.astype(kind))
        assert (decoded.points.shape, decoded.scores.shape, decoded.covariance.shape) == ((2, 3, 2), (2, 3), (2, 3, 3))
        assert decoded.points.dtype == decoded.scores.dtype == decoded.covariance.dtype == np.float32
        np.testing.assert_allclose(decoded.points, 5.0, atol=0.01)
    assert wls(maps[0, 0]).points.shape == (2,)
    assert wls(maps[:0]).points.shape == (0, 3, 2)
    assert wls(maps[:, :0]).points.shape == (2, 0, 2)


def test_batching_changes_nothing():
    maps = odd_maps(16)["random"]
    together = wls(maps)
    for i in range(5):
        np.testing.assert_array_equal(wls(maps[i]).points, together.points[i])
        np.testing.assert_array_equal(wls(maps[i]).covariance, together.covariance[i])


@pytest.mark.parametrize("size", [1, 2, 3, *SIZES])
def test_always_finite(size):
    for kind, maps in odd_maps(size).items():
        decoded = wls(maps)
        for values in (decoded.points, decoded.scores, decoded.covariance):
            assert np.isfinite(values).all(), kind
        assert ((decoded.scores >= 0) & (decoded.scores <= 1)).all(), kind
        assert (np.abs(decoded.points - (size - 1) / 2) <= size / 2 + 3).all(), kind
        variances = decoded.covariance.astype(np.float64)
        determinant = variances[:, 0] * variances[:, 2] - variances[:, 1] ** 2
        assert (determinant >= -1e-4 * variances[:, 0] * variances[:, 2]).all(), kind


@pytest.mark.parametrize("kind", ["zero", "negative", "negative flat", "all nan", "all inf", "all -inf", "one pixel"])
def test_degenerate_maps_fall_back_to_the_argmax(kind):
    maps = odd_maps(8)[kind]
    decoded = wls(maps, radius=2)
    index = np.where(np.isfinite(maps), maps, -HUGE).reshape(len(maps), -1).argmax(-1)
    np.testing.assert_array_equal(decoded.points, np.stack([index % 8, index // 8], -1))
    np.testing.assert_array_equal(decoded.scores, float(kind == "one pixel"))
    np.testing.assert_array_equal(decoded.covariance, np.tile([4.0, 0, 4], (len(maps), 1)))


@pytest.mark.parametrize("anchors", [[(0, 1)], [(0, 1), (1, 0)], [(0, 1), (0, 2), (0, -1)], [(1, 1), (2, 2), (-1, -1), (-2, -2)]])
def test_too_few_anchors_or_all_on_a_line_give_the_argmax_and_its_value(anchors):
    maps = np.zeros((9, 9))
    maps[4, 4] = 0.8
    for dx, dy in anchors:
        maps[4 + dy, 4 + dx] = 0.5
    decoded = wls(maps)
    np.testing.assert_array_equal(decoded.points, [4, 4])
    assert decoded.scores == np.float32(0.8)


def test_first_of_equal_maxima():
    maps = np.zeros((7, 7))
    maps[[1, 5], [5, 1]] = 1
    np.testing.assert_array_equal(wls(maps).points, [5, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_bad_values_are_no_anchors(bad):
    clean = gaussians(np.array([[7.3, 8.6]]), 16)[0]
    spoilt = clean.copy()
    spoilt[[9, 6, 0, 15], [8, 7, 3, 12]] = bad
    np.testing.assert_allclose(wls(spoilt).points, [7.3, 8.6], atol=1e-4)
    spoilt[9, 7] = bad  # the peak itself: the best of the others stands in
    np.testing.assert_allclose(wls(spoilt).points, [7.3, 8.6], atol=1e-3)


def test_covariance_predicts_the_error():
    rng = np.random.default_rng(4)
    points = rng.uniform(-0.5, 7.5, (4000, 2))
    decoded = wls(0.8 * gaussians(points, 8) + rng.normal(0, 0.02, (4000, 8, 8)))
    e = (decoded.points - points).astype(np.float64)
    xx, xy, yy = decoded.covariance.astype(np.float64).T
    distance = (yy * e[:, 0] ** 2 - 2 * xy * e[:, 0] * e[:, 1] + xx * e[:, 1] ** 2) / (xx * yy - xy**2)
    assert 1.2 < np.median(distance) < 1.7  # chi square of two degrees: 1.39
    assert 0.85 < np.sqrt((e**2).sum(1).mean() / (xx + yy).mean()) < 1.15


def test_score_is_the_amplitude_between_pixels():
    decoded = wls(0.6 * gaussians(np.array([[7.5, 7.5]]), 16, 1.5), prior=0)
    assert decoded.scores[0] == pytest.approx(0.6, abs=0.01)  # the peak itself reads 0.54
    assert wls(3 * gaussians(np.array([[7.5, 7.5]]), 16)).scores[0] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": 0},
        {"sigma": np.nan},
        {"radius": 0},
        {"radius": 2.5},
        {"radius": 65},
        {"prior": -1},
        {"prior": np.nan},
        {"floor": 0},
        {"floor": 1},
    ],
)
def test_senseless_parameters(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        wls(np.ones((5, 5)), **wrong)


@pytest.mark.parametrize("shape", [(5,), (), (2, 0, 5), (2, 5, 0)])
def test_maps_without_pixels(shape):
    with pytest.raises(UsageError, match="Heatmaps must be"):
        wls(np.ones(shape))


def test_parameters_are_settled_in_one_place():
    assert check_parameters(sigma=2, radius=3.0, prior=np.inf) == {"sigma": 2.0, "radius": 3, "prior": 1e6, "floor": 0.05}
    assert check_parameters(sigma=2, prior=0)["prior"] == 1e-3


def test_window_is_row_major_around_the_argmax():
    d = window_offsets(2)
    assert d.shape == (25, 2)
    assert d[0].tolist() == [-2, -2]
    assert d[1].tolist() == [-1, -2]
    assert d[12].tolist() == [0, 0]
