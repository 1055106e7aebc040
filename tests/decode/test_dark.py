from __future__ import annotations

import numpy as np
import pytest
from odd_maps import gaussians

from keyposs_trt.decode.dark import dark, dark_border
from keyposs_trt.decode.peaks import argmax

SIZES = (64, 32, 16, 8, 4)


@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_the_plain_loop(loops, size, noisy):
    maps = noisy(100, size, seed=size)
    np.testing.assert_allclose(dark(maps).points, loops.loop(loops.dark, maps), atol=1e-5)


def test_agrees_with_the_plain_loop_where_the_blurred_map_is_clipped(loops):
    maps = np.random.default_rng(6).normal(0, 1, (60, 12, 16)).astype(np.float32)
    expected = loops.loop(loops.dark, maps)
    tame = np.abs(expected - argmax(maps).points).max(-1) < 50
    assert tame.sum() > 30
    np.testing.assert_allclose(dark(maps).points[tame], expected[tame], atol=1e-4)


@pytest.mark.parametrize("amplitude", [1.0, 1e-3, 1e-12])
def test_exact_on_clean_gaussians_off_the_border(amplitude):
    points = np.random.default_rng(1).uniform(7.5, 23.5, (50, 2))
    maps = gaussians(points, 32)
    decoded = dark(amplitude * maps)
    np.testing.assert_allclose(decoded.points, points, atol=5e-3 if amplitude > 1e-10 else 1)
    assert decoded.covariance is None


def test_the_kernel_of_the_plain_loop_is_that_of_opencv(loops, noisy):
    import cv2

    heatmap = noisy(1, 32, seed=3)[0].astype(np.float64)
    padded = cv2.GaussianBlur(np.pad(heatmap, 5), (11, 11), 0)[5:-5, 5:-5]
    np.testing.assert_allclose(loops.blur(heatmap, 11), padded, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_published_guard_leaves_peaks_near_the_border(size):
    rng = np.random.default_rng(2)
    points = rng.uniform(-0.5, size - 0.5, (300, 2))
    maps = gaussians(points, size)
    peak = argmax(maps).points
    inside = ((peak >= 2) & (peak <= size - 3)).all(-1)
    moved = (dark(maps).points != peak).any(-1)
    np.testing.assert_array_equal(moved, inside)


@pytest.mark.parametrize("size", SIZES)
def test_border_safe_variant_is_exact_everywhere(size):
    points = np.random.default_rng(3).uniform(-0.9, size - 0.1, (200, 2))
    np.testing.assert_allclose(dark_border(0.7 * gaussians(points, size)).points, points, atol=0.05)


def test_both_agree_off_the_border_and_differ_at_it(noisy):
    maps = noisy(300, 32, seed=4)
    peak = argmax(maps).points
    off = ((peak >= 7) & (peak <= 24)).all(-1)
    edge = ((peak < 2) | (peak > 29)).any(-1)
    assert min(off.sum(), edge.sum()) > 50
    a, b = dark(maps).points, dark_border(maps).points
    np.testing.assert_array_equal(a[off], b[off])
    assert (a[edge] != b[edge]).any(-1).all()


@pytest.mark.parametrize(("size", "gain"), [(32, 3), (16, 3.2), (8, 2.8), (4, 1.2)])
def test_border_safe_variant_is_better_on_noisy_maps(size, gain):
    rng = np.random.default_rng(5)
    points = rng.uniform(-0.5, size - 0.5, (800, 2))
    maps = 0.8 * gaussians(points, size) + rng.normal(0, 0.02, (800, size, size))
    errors = [np.linalg.norm(decoder(maps).points - points, axis=-1).mean() for decoder in (dark, dark_border)]
    assert errors[0] > gain * errors[1]


def test_border_safe_step_is_bounded():
    maps = np.random.default_rng(6).normal(0, 1, (300, 12, 12))
    step = np.abs(dark_border(maps).points - argmax(maps).points)
    assert step.max() <= 1
    assert 0.2 < (step.max(-1) > 0).mean() < 0.6  # most are not concave


@pytest.mark.parametrize("shape", [(1, 9), (2, 9), (9, 1), (1, 1), (2, 2)])
def test_maps_too_small_to_refine_give_the_argmax(shape):
    maps = np.random.default_rng(7).uniform(0.1, 1, (20, *shape))
    for decoder in (dark, dark_border):
        np.testing.assert_array_equal(decoder(maps).points, argmax(maps).points)


def test_peaks_that_are_not_positive_are_the_landmarks():
    maps = -1 - gaussians(np.array([[5.3, 5.6]]), 12)
    maps[0, 5, 6] = -0.5
    for decoder in (dark, dark_border):
        np.testing.assert_array_equal(decoder(maps).points, [[6, 5]])
    maps[0, 5, 6] = 0.5  # positive, yet no blurred value is
    np.testing.assert_array_equal(dark(maps).points, [[6, 5]])
