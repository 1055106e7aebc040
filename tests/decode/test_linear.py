from __future__ import annotations

import numpy as np
import pytest
from odd_maps import gaussians

from keyposs_trt.decode.linear import lls
from keyposs_trt.errors import UsageError

SIZES = (64, 32, 16, 8, 4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("border_quirk", [True, False])
def test_agrees_with_the_plain_loop(loops, size, border_quirk, noisy):
    maps = noisy(200, size, seed=size)
    expected = [loops.lls(m, border_quirk=border_quirk) for m in maps]
    np.testing.assert_allclose(lls(maps, border_quirk=border_quirk).points, expected, atol=1e-5)


def test_agrees_with_the_plain_loop_on_maps_of_two_lengths(loops, noisy):
    maps = noisy(50, 12, seed=1)[:, 2:9]
    np.testing.assert_allclose(lls(maps, sigma=1.5).points, [loops.lls(m, sigma=1.5) for m in maps], atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("amplitude", [1.0, 0.3])
def test_exact_on_clean_gaussians_of_any_amplitude(size, amplitude):
    points = np.random.default_rng(1).uniform(-0.4, size - 0.6, (50, 2))
    for border_quirk in (True, False):
        decoded = lls(amplitude * gaussians(points, size), border_quirk=border_quirk)
        np.testing.assert_allclose(decoded.points, points, atol=1e-4)
    assert decoded.covariance is None


def test_the_quirk_leaves_out_the_last_row_and_column():
    rng = np.random.default_rng(2)
    for x, y in ([14.6, 7.2], [7.2, 14.6], [14.5, 14.5]):
        maps = gaussians(np.array([[x, y]]), 16) + rng.normal(0, 0.02, (50, 16, 16))
        disturbed = maps.copy()
        line = disturbed[:, :, -1] if x > y else disturbed[:, -1]
        line *= 0.8
        assert (lls(maps).points == lls(disturbed).points).all()
        assert (lls(maps, border_quirk=False).points != lls(disturbed, border_quirk=False).points).any()
        errors = [np.linalg.norm(lls(maps, border_quirk=q).points - [x, y], axis=-1).mean() for q in (True, False)]
        assert errors[0] > errors[1]


def test_the_last_of_equal_blocks():
    maps = np.full((1, 8, 8), 0.5)
    maps[0, 4, 4] = 0.5001
    # The four blocks with the peak have one sum; the landmark of nearly equal values is the middle of the last of them.
    np.testing.assert_allclose(lls(maps).points, [[4.5, 4.5]], atol=0.01)


def test_blocks_with_what_is_no_measurement_are_left_out():
    points = np.random.default_rng(3).uniform(3.6, 4.4, (20, 2))
    maps = gaussians(points, 9)
    maps[:, 5] = np.nan
    np.testing.assert_allclose(lls(maps).points, points, atol=1e-4)
    maps[:, :, 3] = maps[:, :, 5] = np.nan  # no block is left
    np.testing.assert_array_equal(lls(maps).points, np.broadcast_to([4, 4], (20, 2)))


@pytest.mark.parametrize(
    ("shape", "solved"), [((1, 9), (False, False)), ((2, 9), (False, True)), ((9, 2), (False, True)), ((3, 3), (True, True))]
)
def test_maps_too_small_for_a_block_give_the_argmax(shape, solved):
    maps = np.random.default_rng(4).uniform(0.4, 1, (20, *shape))
    index = maps.reshape(20, -1).argmax(-1)
    peak = np.stack([index % shape[1], index // shape[1]], -1)
    for quirk, expected in zip((True, False), solved, strict=True):
        assert (lls(maps, border_quirk=quirk).points != peak).any() == expected


def test_a_peak_that_is_not_positive_is_the_landmark():
    maps = -np.random.default_rng(5).uniform(0.1, 1, (20, 8, 8))
    decoded = lls(maps)
    assert (decoded.points == decoded.points.round()).all()
    assert (decoded.scores == 0).all()


def test_a_sigma_without_sense_is_refused():
    with pytest.raises(UsageError, match="sigma"):
        lls(np.zeros((4, 4)), sigma=-1)
