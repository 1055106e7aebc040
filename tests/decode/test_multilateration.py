from __future__ import annotations

import numpy as np
import pytest
from odd_maps import gaussians, odd_maps

from keyposs_trt.decode import wls
from keyposs_trt.decode.multilateration import HUGE, anchor_steps, check_parameters, window_offsets
from keyposs_trt.errors import UsageError

SIZES = (64, 32, 16, 8, 4)


def slow_wls(h, sigma, radius, prior):
    """One map, straight from the formulae, by numpy.linalg on the whole system of six: a second opinion without the algebra."""
    height, width = h.shape
    row, col = np.unravel_index(np.argmax(h), h.shape)
    target = np.array([0, 0, 0, 1, 0, 0])

    def anchors(r, disc):
        near = min(r, 2)
        cells = [
            (x, y)
            for y in range(height)
            for x in range(width)
            if max(abs(x - col), abs(y - row)) <= near or (disc and (x - col) ** 2 + (y - row) ** 2 <= r * (r + 1))
        ]
        dx, dy = np.array(cells).T - np.array([[col], [row]])
        columns = (np.ones(len(dx)), dx, dy, -(dx**2 + dy**2) / 2 / sigma**2, -(dx**2 - dy**2) / 2 / sigma**2, -dx * dy / sigma**2)
        return np.stack(columns, 1), np.array([h[y, x] for x, y in cells]) / h[row, col]

    def ridge(kappa, skew):
        return np.diag([0, 0, 0, kappa, skew, skew])

    F, v = anchors(radius, disc=False)
    w, L = np.exp(2 * F[:, 3]), ridge(prior, 4 * prior)
    theta = target + np.linalg.solve(F.T @ (w[:, None] * F) + L, F.T @ (w * (np.log(np.maximum(v, 0.05)) - F @ target)))

    F, v = anchors(radius, disc=True)
    m = np.exp(np.minimum(F @ theta, 0.2))
    r = v - m
    w = np.clip((0.25 - r) / 0.1, 0, 1)
    S, g = F.T @ ((w * m**2)[:, None] * F), F.T @ (w * m * r)
    d = np.linalg.solve(S + L, g - L @ (theta - target))
    noise = (w * (r - m * (F @ d)) ** 2).sum() / max(w.sum() - 6, 1)
    spread, shape = noise * np.linalg.inv(S + L), theta + d - target
    L = ridge(
        prior + noise / max(shape[3] ** 2 - 2 * spread[3, 3], 3e-4),
        4 * prior + 2 * noise / max(shape[4] ** 2 + shape[5] ** 2 - 2 * (spread[4, 4] + spread[5, 5]), 3e-4),
    )
    inverse = np.linalg.inv(S + L)

    def place(theta):
        kappa = np.clip(theta[3], 0.25, 4)
        K = np.array([[kappa + theta[4], theta[5]], [theta[5], kappa - theta[4]]]) / sigma**2
        small = 0.25 * (kappa / sigma**2) ** 2
        offset = np.linalg.solve(K, theta[1:3]) * np.linalg.det(K) / max(np.linalg.det(K), small)
        return np.clip(offset, -3, 3)

    theta = theta + inverse @ (g - L @ (theta - target))
    steps = np.eye(6) * 1e-6
    slope = np.stack([(place(theta + e) - place(theta - e)) / 2e-6 for e in steps], 1)
    return np.array([col, row]) + place(theta), noise * slope @ inverse @ slope.T


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("sigma", "radius", "prior"), [(2, 5, 0.015), (1.5, 2, 0.3), (2.5, 4, 0.001), (2, 1, 0.1)])
def test_agrees_with_the_plain_normal_equations(size, sigma, radius, prior):
    rng = np.random.default_rng(size)
    points = rng.uniform(-0.5, size - 0.5, (40, 2))
    maps = (0.7 * gaussians(points, size, rng.uniform(1.4, 3, 40)) + rng.normal(0, 0.02, (40, size, size))).astype(np.float32)
    found = wls(maps, sigma=sigma, radius=radius, prior=prior)
    expected, spread = map(np.array, zip(*(slow_wls(m.astype(float), sigma, radius, prior) for m in maps), strict=True))
    np.testing.assert_allclose(found.points, expected, atol=2e-5)
    inside = (np.abs(expected - expected.round()) < 2.9).all(-1)
    plain = np.isclose(found.covariance, spread[:, [0, 0, 1], [0, 1, 1]], rtol=1e-2, atol=1e-6).all(-1)
    assert plain[inside].mean() > 0.9  # the others sit on a bound of kappa or of roundness, where the slope has a corner


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("amplitude", [1.0, 0.3, 1e-3])
def test_exact_on_clean_gaussians_of_any_amplitude(size, amplitude):
    points = np.random.default_rng(1).uniform(-0.5, size - 0.5, (50, 2))
    decoded = wls(amplitude * gaussians(points, size, 2.0))
    np.testing.assert_allclose(decoded.points, points, atol=2e-4)
    np.testing.assert_allclose(decoded.scores, amplitude, rtol=2e-4)
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


@pytest.mark.parametrize("kind", ["zero", "negative", "negative flat", "all nan", "all inf", "all -inf"])
def test_degenerate_maps_fall_back_to_the_argmax(kind):
    maps = odd_maps(8)[kind]
    decoded = wls(maps)
    index = np.where(np.isfinite(maps), maps, -HUGE).reshape(len(maps), -1).argmax(-1)
    np.testing.assert_array_equal(decoded.points, np.stack([index % 8, index // 8], -1))
    np.testing.assert_array_equal(decoded.scores, 0)
    np.testing.assert_array_equal(decoded.covariance, np.tile([9.0, 0, 9], (len(maps), 1)))


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (1, 2)])
def test_anchors_on_a_line_give_the_argmax_and_its_value(size):
    maps = 0.8 * np.exp(-(np.arange(9.0)[: max(size)].reshape(size) ** 2))
    decoded = wls(maps)
    np.testing.assert_array_equal(decoded.points, [0, 0])
    assert decoded.scores == np.float32(0.8)


def test_fewer_than_four_anchors_give_the_argmax_and_its_value():
    maps = np.full((9, 9), np.nan)
    maps[[4, 4, 5], [4, 5, 4]] = 0.8, 0.6, 0.7
    decoded = wls(maps)
    np.testing.assert_array_equal(decoded.points, [4, 4])
    assert decoded.scores == np.float32(0.8)


def test_first_of_equal_maxima():
    maps = np.zeros((7, 7))
    maps[[1, 5], [5, 1]] = 1
    np.testing.assert_array_equal(wls(maps).points.round(), [5, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_bad_values_are_no_anchors(bad):
    clean = gaussians(np.array([[7.3, 8.6]]), 16)[0]
    spoilt = clean.copy()
    spoilt[[9, 6, 0, 15], [8, 7, 3, 12]] = bad
    np.testing.assert_allclose(wls(spoilt).points, [7.3, 8.6], atol=0.02)
    spoilt[9, 7] = bad  # the peak itself: the best of the others stands in
    np.testing.assert_allclose(wls(spoilt).points, [7.3, 8.6], atol=0.02)


@pytest.mark.parametrize("size", [64, 32, 16, 8, 4])
@pytest.mark.parametrize("sigma", [(2, 2), (1.7, 2.5)])
def test_covariance_is_honest(size, sigma):
    """The squared Mahalanobis distance of two normal errors, the noise estimated from nu residuals: mean 2 nu / (nu - 2)."""
    rng = np.random.default_rng(4)
    points = rng.uniform(0.15, 0.85, (4000, 2)) * size - 0.5
    decoded = wls(0.8 * gaussians(points, size, rng.uniform(*sigma, 4000)) + rng.normal(0, 0.02, (4000, size, size)))
    e = (decoded.points - points).astype(np.float64)
    xx, xy, yy = decoded.covariance.astype(np.float64).T
    distance = (yy * e[:, 0] ** 2 - 2 * xy * e[:, 0] * e[:, 1] + xx * e[:, 1] ** 2) / (xx * yy - xy**2)
    freedom = min(size**2, 97) - 6
    if size > 4:
        assert distance.mean() == pytest.approx(2 * freedom / (freedom - 2), rel=0.1)
    else:  # curved rather than normal: the map holds a part of the Gaussian
        assert 0.85 < distance.mean() / (2 * freedom / (freedom - 2)) < 1.3


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
        {"radius": 17},
        {"prior": -1},
        {"prior": np.nan},
        {"sigma": 65},
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
    assert check_parameters(sigma=2, radius=3.0, prior=np.inf) == {"sigma": 2.0, "radius": 3, "prior": 1e6}
    assert check_parameters(sigma=2, prior=0)["prior"] == 1e-3


def test_window_is_the_square_of_the_first_fit_and_a_disc_around_it():
    d = window_offsets(5)
    assert d[:25].tolist() == [[x, y] for y in range(-2, 3) for x in range(-2, 3)]
    assert {tuple(v) for v in d} == {(x, y) for x in range(-5, 6) for y in range(-5, 6) if x * x + y * y <= 30}
    assert len(d) == 97
    assert len(window_offsets(1)) == 9
    assert len(window_offsets(2)) == 25


def test_every_cell_has_the_anchors_that_are_on_the_map():
    steps, inside, of_row, of_column = anchor_steps(7, 12, 4)
    assert len(steps) < 7 * 12
    for y in range(7):
        for x in range(12):
            way = of_row[y] + of_column[x]
            found = {int(y * 12 + x + step) for step in steps[way][inside[way]]}
            ax, ay = window_offsets(4).T + np.array([[x], [y]])
            on_map = (ax >= 0) & (ax < 12) & (ay >= 0) & (ay < 7)
            assert found == set((ay * 12 + ax)[on_map].tolist())
            assert (steps[way][~inside[way]] == 0).all()
