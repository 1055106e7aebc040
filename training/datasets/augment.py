"""Augmentation: a random crop that moves the points with the image, and changes of its pixels with torchvision's operators.

Everything random comes from the generator that is given, so that a sample can be drawn again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F  # noqa: N812 (the usual name)

from keyposs_trt.crop import shrunk_region
from keyposs_trt.geometry import crop_matrix, square_of_box, transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.training.recipe import AugmentRecipe

_DARKEST = 14.0  # mean of a crop, of 255
_BORDERS = (cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT)


def random_crop(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    box: NDArray[np.float32],
    flip_pairs: NDArray[np.int64],
    size: int,
    crop_scale: float,
    rng: np.random.Generator,
    how: AugmentRecipe,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], bool]:
    """A random square crop around a face.

    Args:
        image: [H, W, 3] uint8.
        points: [L, 2] in image pixels.
        box: [4] x1 y1 x2 y2 of the face in image pixels.
        flip_pairs: [L] index of every point's mirror image.
        size: side of the crop in pixels.
        crop_scale: side of the undisturbed crop over the longer side of the box.

    Returns:
        The crop [size, size, 3], its points [L, 2] in crop pixels, and whether it is mirrored.
    """
    square = square_of_box(box, crop_scale).astype(np.float64)
    square[:2] += rng.standard_normal(2) * how.shift * square[2]
    square[2] *= np.exp(rng.uniform(*np.log(how.scale)))
    turn = float(np.clip(rng.standard_normal(), -how.angle_limit, how.angle_limit) * how.angle)
    angle = np.deg2rad(turn) if rng.random() < how.rotate else 0.0
    matrix = crop_matrix(square.astype(np.float32), size, float(angle))
    mirrored = rng.random() < how.flip
    if mirrored:
        matrix = np.array([[-1, 0, size - 1], [0, 1, 0]], np.float64) @ np.vstack([matrix, [0, 0, 1]])
        points = points[flip_pairs]
    border = _BORDERS[rng.integers(3)] if how.borders else cv2.BORDER_CONSTANT
    reach = np.array([1, 1, abs(np.cos(angle)) + abs(np.sin(angle))])  # the square that holds the turned one
    region, to_image = shrunk_region(image, square * reach, size)
    warp = matrix[:, :2] @ to_image
    warp[:, 2] += matrix[:, 2]
    if not region.size:
        return np.zeros((size, size, 3), np.uint8), transform(matrix, points), mirrored
    crop = cv2.warpAffine(region, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(crop, np.uint8), transform(matrix, points), mirrored


def random_pixels(image: torch.Tensor, rng: np.random.Generator, how: AugmentRecipe) -> torch.Tensor:
    """Random occluders, light, colour, blur, noise, resolution and compression on an image [3, S, S] uint8 RGB."""
    if rng.random() < how.occlude:
        image = _occlude(image, rng)
    if rng.random() < how.shade:
        image = _shade(image, rng)
    if rng.random() < how.colour:
        image = _colour(image, rng)
    if rng.random() < how.grey:
        image = F.rgb_to_grayscale(image, 3)
    if rng.random() < how.dark:
        image = _dark(image, rng)
    if rng.random() < how.coarse:
        small = max(4, int(image.shape[-1] * rng.uniform(0.2, 0.7)))
        image = F.resize(F.resize(image, [small, small], antialias=True), list(image.shape[-2:]))
    if rng.random() < how.blur:
        image = _blur(image, rng)
    if rng.random() < how.noise:
        image = _noise(image, rng, float(rng.uniform(2, 15)))
    if rng.random() < how.jpeg:
        image = _jpeg(image, int(rng.integers(12, 70)))
    return image


def _colour(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    image = _gamma(image, float(np.exp(rng.normal(0, 0.35))))
    image = F.adjust_brightness(image, float(rng.uniform(0.65, 1.3)))
    image = F.adjust_contrast(image, float(rng.uniform(0.6, 1.3)))
    if rng.random() < 0.5:
        tint = torch.from_numpy(rng.normal(1, 0.08, (3, 1, 1)).astype(np.float32))
        image = (image * tint).clamp(0, 255).to(torch.uint8)
    if rng.random() < 0.4:
        image = F.adjust_saturation(image, float(rng.uniform(0.2, 1.5)))
    if rng.random() < 0.15:
        image = F.adjust_hue(image, float(rng.uniform(-0.06, 0.06)))
    return image


def _gamma(image: torch.Tensor, gamma: float) -> torch.Tensor:
    """As ``F.adjust_gamma``, by a table: a power of every pixel takes five times as long."""
    table = (255 * (np.arange(256) / 255) ** gamma).round().astype(np.uint8)
    return torch.from_numpy(table[image.numpy()])


def _blur(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Out of focus, or moved along a line."""
    if rng.random() < 0.5:
        sigma = float(rng.uniform(0.5, 2.2))
        kernel = 2 * round(2.5 * sigma) + 1
        return F.gaussian_blur(image, [kernel, kernel], [sigma, sigma])
    length = int(rng.integers(3, 10)) | 1
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1 / length
    turned = cv2.warpAffine(line, cv2.getRotationMatrix2D((length // 2, length // 2), float(rng.uniform(0, 180)), 1), (length, length))
    moved = cv2.filter2D(image.permute(1, 2, 0).numpy(), -1, np.asarray(turned, np.float32) / max(float(turned.sum()), 1e-6))
    return torch.from_numpy(np.ascontiguousarray(moved.transpose(2, 0, 1)))


def _jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    """By OpenCV: torchvision's is deprecated since 0.29."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.cvtColor(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(np.ascontiguousarray(decoded.transpose(2, 0, 1)))


def _noise(image: torch.Tensor, rng: np.random.Generator, deviation: float) -> torch.Tensor:
    noise = rng.standard_normal(tuple(image.shape), np.float32) * np.float32(deviation)
    return (image + torch.from_numpy(noise)).clamp(0, 255).to(torch.uint8)


def _dark(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Low light: less of it, but no less than shows a face, and the sensor's noise amplified."""
    gamma, gain = float(rng.uniform(1, 1.8)), float(rng.uniform(0.15, 0.5))
    if float(image.float().mean()) > 2 * _DARKEST:
        image = _gamma(image, gamma)
        image = F.adjust_brightness(image, min(1.0, max(gain, _DARKEST / max(float(image.float().mean()), 1.0))))
    return _noise(image, rng, float(rng.uniform(1, 6)))


def _shade(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Light from one side: brightness falls off along a line, softly or at a shadow's edge."""
    size = image.shape[-1]
    angle, edge, sharp = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3), np.exp(rng.uniform(np.log(2), np.log(20)))
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    lit = 1 / (1 + np.exp(-sharp * (x * np.cos(angle) + y * np.sin(angle) - edge)))
    gain = torch.from_numpy((rng.uniform(0.25, 0.7) + rng.uniform(0.4, 0.7) * lit).astype(np.float32))
    return (image * gain).clamp(0, 255).to(torch.uint8)


def _occlude(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A filled ellipse or rectangle, of one colour or of a shifted piece of the image itself."""
    size = image.shape[-1]
    mask = np.zeros((size, size), np.uint8)
    centre = tuple(int(v) for v in rng.integers(0, size, 2))
    half = tuple(int(v) for v in rng.uniform(0.06, 0.28, 2) * size)
    if rng.random() < 0.5:
        cv2.ellipse(mask, centre, half, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    else:
        corners = cv2.boxPoints((centre, (2.0 * half[0], 2.0 * half[1]), float(rng.uniform(0, 90))))
        cv2.fillConvexPoly(mask, corners.astype(np.int32), 255)
    if rng.random() < 0.5:
        cover = torch.from_numpy(rng.integers(0, 256, (3, 1, 1)).astype(np.uint8)).expand_as(image)
    else:
        cover = image.roll(tuple(int(v) for v in rng.integers(size // 4, size, 2)), (1, 2))
    return torch.where(torch.from_numpy(mask > 0), cover, image)
