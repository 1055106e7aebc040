from __future__ import annotations

import dataclasses

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from keyposs_trt.geometry import box_of_points  # noqa: E402
from keyposs_trt.schemes import load_scheme  # noqa: E402
from keyposs_trt.training.datasets.augment import random_crop, random_pixels  # noqa: E402
from keyposs_trt.training.recipe import AugmentRecipe  # noqa: E402

NONE = AugmentRecipe(**{f.name: 0.0 for f in dataclasses.fields(AugmentRecipe)} | {"scale": (1.0, 1.0), "borders": True})
PIXELS = ("occlude", "shade", "dark", "colour", "grey", "blur", "noise", "coarse", "jpeg")
ORDER = np.array([1, 0, 3, 2, 4, 5])


def only(**changes: float) -> AugmentRecipe:
    return dataclasses.replace(NONE, **changes)


def dots(size=192, n=6, seed=0):
    """An image of white dots on black, and where they are."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(size * 0.3, size * 0.7, (n, 2)).astype(np.float32)
    image = np.zeros((size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size]
    for p in points:
        image[np.hypot(x - p[0], y - p[1]) < 2.5 * size / 192] = 255
    return image, points


def photograph():
    """[3, 64, 64] uint8 of a smooth coloured picture with edges."""
    y, x = np.mgrid[:64, :64] / 64
    image = np.stack([90 + 120 * x, 60 + 100 * y, 200 - 90 * x * y]) + 30 * (np.hypot(x - 0.5, y - 0.4) < 0.3)
    return torch.from_numpy(image.astype(np.uint8))


def crop_of(image, points, seed, how, size=96):
    return random_crop(image, points, box_of_points(points), ORDER, size, 1.25, np.random.default_rng(seed), how)


MOVES = {
    "all": only(shift=0.01, scale=(1 / 1.1, 1.1), angle=14.0, angle_limit=3.0, rotate=1.0, flip=0.5),
    "scale": only(scale=(1 / 1.2, 1.2)),
    "shift": only(shift=0.1),
    "rotation": only(angle=60.0, angle_limit=3.0, rotate=1.0),
    "mirror": only(flip=1.0),
}


@pytest.mark.parametrize("side", [192, 1500])
@pytest.mark.parametrize("how", MOVES.values(), ids=MOVES)
def test_points_move_with_the_image(how, side):
    image, points = dots(side)
    for seed in range(8):
        crop, moved, _ = crop_of(image, points, seed, how)
        assert (crop.shape, crop.dtype) == ((96, 96, 3), np.uint8)
        seen = moved[((moved > 1) & (moved < 94)).all(-1)]
        assert len(seen) >= 3
        for x, y in np.round(seen).astype(int):
            assert crop[y, x].min() > 100


def test_moves_are_as_large_as_the_recipe_says():
    image, points = dots()
    plain = crop_of(image, points, 0, NONE)[1]
    spread, angles = [], []
    for seed in range(60):
        moved = crop_of(image, points, seed, only(scale=(1 / 1.5, 1.5), angle=20.0, angle_limit=1.0, rotate=0.5))[1]
        a, b = ((p - p.mean(0)) @ [1, 1j] for p in (moved, plain))
        turn = (a * b.conj()).sum() / (b * b.conj()).sum().real
        spread.append(abs(turn))
        angles.append(abs(np.degrees(np.angle(turn))))
    assert 1 / 1.51 < min(spread) < 0.8
    assert 1.25 < max(spread) < 1.51
    assert 15 < max(angles) < 20.1
    assert 15 < sum(angle < 0.01 for angle in angles) < 45


def test_mirroring_swaps_the_pairs():
    scheme = load_scheme("300w")
    points = np.random.default_rng(1).uniform(50, 140, (68, 2)).astype(np.float32)
    image = np.zeros((192, 192, 3), np.uint8)
    box = box_of_points(points)
    plain, mirrored = (random_crop(image, points, box, scheme.flip, 128, 1.25, np.random.default_rng(0), only(flip=v)) for v in (0.0, 1.0))
    assert (plain[2], mirrored[2]) == (False, True)
    np.testing.assert_allclose(mirrored[1], plain[1][scheme.flip] * [-1, 1] + [127, 0], atol=1e-3)


def test_crops_are_repeatable():
    image, points = dots()
    first, again, other = (crop_of(image, points, seed, AugmentRecipe()) for seed in (3, 3, 4))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert (first[0] != other[0]).any()


def test_a_face_outside_the_image_gives_a_crop():
    image, points = dots()
    crop, moved, _ = crop_of(image, points + 5000, 0, AugmentRecipe())
    assert crop.shape == (96, 96, 3)
    assert np.isfinite(moved).all()


def test_no_change_is_made_that_the_recipe_does_not_ask_for():
    image = photograph()
    assert torch.equal(random_pixels(image, np.random.default_rng(0), NONE), image)


@pytest.mark.parametrize("name", PIXELS)
def test_every_change_of_pixels_alone(name):
    image = photograph()
    before, changed = image.clone(), 0
    for seed in range(10):
        out, again = (random_pixels(image, np.random.default_rng(seed), only(**{name: 1.0})) for _ in range(2))
        assert (out.shape, out.dtype) == (image.shape, torch.uint8)
        assert torch.equal(out, again)
        assert torch.equal(image, before)
        changed += not torch.equal(out, image)
    assert changed >= 9


def test_all_changes_together_are_repeatable():
    always = dataclasses.replace(AugmentRecipe(), **dict.fromkeys(PIXELS, 1.0))
    for seed in range(10):
        out, again = (random_pixels(photograph(), np.random.default_rng(seed), always) for _ in range(2))
        assert (out.shape, out.dtype) == ((3, 64, 64), torch.uint8)
        assert torch.equal(out, again)


def outs(name, image, count=20):
    return [random_pixels(image, np.random.default_rng(seed), only(**{name: 1.0})).float() for seed in range(count)]


def test_dark_darkens_but_leaves_something_to_see():
    image = photograph()
    for out in outs("dark", image):
        assert 10 < out.mean() < 0.6 * image.float().mean()
    night = (image / 12).to(torch.uint8)
    for out in outs("dark", night):
        assert out.mean() > 5


def test_grey_leaves_no_colour():
    for out in outs("grey", photograph(), 2):
        assert (out == out[:1]).all()


def test_shade_is_brighter_on_one_side():
    flat = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    for out in outs("shade", flat):
        assert out.max() > 1.15 * out.min()
        assert (out == out[:1]).all()


def test_blur_and_coarse_lose_detail_and_noise_adds_it():
    image = torch.from_numpy(cv2.blur(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8), (2, 2))).permute(2, 0, 1)

    def detail(x):
        return (x[:, 1:] - x[:, :-1]).abs().mean() + (x[:, :, 1:] - x[:, :, :-1]).abs().mean()

    plain = detail(image.float())
    assert all(detail(out) < 0.9 * plain for name in ("blur", "coarse") for out in outs(name, image))
    flat = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    assert all(1 < out.std() < 20 for out in outs("noise", flat))


def test_occluders_cover_a_part():
    image = photograph()
    shares = [(out != image).any(0).float().mean().item() for out in outs("occlude", image, 40)]
    assert max(shares) < 0.4
    assert np.mean(shares) > 0.03
