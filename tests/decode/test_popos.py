from __future__ import annotations

import numpy as np
import pytest
from odd_maps import gaussians

from keyposs_trt.decode import popos as module
from keyposs_trt.decode.linear import lls
from keyposs_trt.decode.popos import popos
from keyposs_trt.errors import UsageError


def slow_popos(h, side, extent, anchors):
    """One map, candidate by candidate."""
    index = np.argsort(-h.ravel(), kind="stable")[:anchors]
    stations = [(i % h.shape[1], i // h.shape[1], np.sqrt(-8 * np.log(np.clip(h.ravel()[i], 1e-9, 1)))) for i in index.tolist()]
    steps = np.linspace(-extent + extent / side, extent - extent / side, side)
    candidates = [lls(h).points + np.array([dx, dy]) for dy in steps for dx in steps]
    return min(candidates, key=lambda p: sum(abs(np.hypot(ax - p[0], ay - p[1]) - d) for ax, ay, d in stations))


@pytest.mark.parametrize(("size", "anchors"), [(32, 30), (8, 15), (4, 10)])
def test_agrees_with_a_plain_search(noisy, size, anchors):
    maps = noisy(12, size, seed=size)
    expected = [slow_popos(m, 8, 0.7, anchors) for m in maps]
    np.testing.assert_allclose(popos(maps, candidates=64, extent=0.7).points, expected, atol=1e-5)


@pytest.mark.parametrize("size", [64, 16, 8, 4])
@pytest.mark.parametrize(("candidates", "extent"), [(1024, 0.5), (256, 0.25), (100, 1.5)])
def test_half_a_step_off_on_clean_gaussians_of_amplitude_one(size, candidates, extent):
    points = np.random.default_rng(1).uniform(0, size - 1, (40, 2))
    decoded = popos(gaussians(points, size), candidates=candidates, extent=extent)
    np.testing.assert_allclose(decoded.points, points, atol=extent / np.sqrt(candidates) + 1e-4)
    assert decoded.covariance is None


def test_stays_on_the_grid_around_the_linear_solution(noisy):
    maps = noisy(100, 16, seed=2)
    off = np.abs(popos(maps, extent=0.25).points - lls(maps).points)
    assert off.max() < 0.25
    assert off.max() > 0.2  # the amplitude pushes it to the edge


def test_chunks_change_nothing(noisy, monkeypatch):
    maps = noisy(50, 8, seed=3)
    whole = popos(maps).points
    monkeypatch.setattr(module, "CHUNK", 1)
    np.testing.assert_array_equal(popos(maps).points, whole)


def test_the_quirk_of_the_linear_solver_moves_the_grid():
    maps = gaussians(np.array([[6.7, 6.6]]), 8) + np.random.default_rng(4).normal(0, 0.05, (50, 8, 8))
    assert (popos(maps).points != popos(maps, border_quirk=False).points).any()


def test_peaks_that_are_not_positive_are_the_landmarks():
    maps = -np.random.default_rng(5).uniform(0.1, 1, (20, 8, 8))
    assert (popos(maps).points == popos(maps).points.round()).all()


@pytest.mark.parametrize(
    "wrong",
    [{"candidates": n} for n in (1000, 1, 0, -4, 2.25, np.nan, 10**8)]
    + [{"extent": e} for e in (0, -1, np.nan, np.inf)]
    + [{"anchors": 1}],
)
def test_parameters_without_sense_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        popos(np.zeros((4, 4)), **wrong)
