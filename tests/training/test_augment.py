from __future__ import annotations

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from keyposs_trt.schemes import load_scheme  # noqa: E402
from keyposs_trt.training.datasets.augment import Augmentation, random_crop, random_pixels  # noqa: E402


def dots(n=6, size=192, seed=0):
    """An image of white dots on black, and where they are."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(size * 0.3, size * 0.7, (n, 2)).astype(np.float32)
    image = np.zeros((size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size]
    for p in points:
        image[np.hypot(x - p[0], y - p[1]) < 2.5] = 255
    return image, points


@pytest.mark.parametrize("seed", range(8))
def test_points_move_with_the_image(seed):
    image, points = dots()
    order = np.array([1, 0, 3, 2, 4, 5])
    crop, moved = random_crop(image, points, order, 96, 1.25, np.random.default_rng(seed), Augmentation(shift=0.01, scale=1.1))
    assert crop.shape == (96, 96, 3)
    seen = moved[((moved > 1) & (moved < 94)).all(-1)]
    assert len(seen) >= 4
    for x, y in np.round(seen).astype(int):
        assert crop[y, x].min() > 100


def test_mirroring_swaps_the_pairs():
    scheme = load_scheme("300w")
    points = np.random.default_rng(1).uniform(50, 140, (68, 2)).astype(np.float32)
    still = {"shift": 0, "scale": 1.0, "angle": 0}
    image = np.zeros((192, 192, 3), np.uint8)
    rng = np.random.default_rng
    plain = random_crop(image, points, scheme.flip, 128, 1.25, rng(0), Augmentation(flip=0, **still))[1]
    mirrored = random_crop(image, points, scheme.flip, 128, 1.25, rng(0), Augmentation(flip=1, **still))[1]
    np.testing.assert_allclose(mirrored, plain[scheme.flip] * [-1, 1] + [127, 0], atol=1e-3)


def test_pixel_changes_keep_shape_and_are_repeatable():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    always = Augmentation(occlude=1, blur=1, noise=1, coarse=1, jpeg=1, grey=0)
    for seed in range(10):
        out = random_pixels(image, np.random.default_rng(seed), always)
        assert (out.shape, out.dtype) == ((64, 64, 3), np.uint8)
        assert (out == random_pixels(image, np.random.default_rng(seed), always)).all()
        assert (out != image).any()
