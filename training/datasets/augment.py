"""Augmentation: a random crop that moves the points with the image, and changes of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from keyposs_trt.geometry import box_of_points, crop_matrix, square_of_box, transform

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the random changes.

    Attributes:
        scale: the crop is larger or smaller by a factor log-uniform in [1/scale, scale].
        shift: standard deviation of the crop's centre, as a share of its side.
        angle: standard deviation of the crop's rotation in degrees, cut at three times that.
        flip: probability of mirroring.
        occlude, blur, noise, coarse, jpeg, grey: probabilities of these changes.
    """

    scale: float = 1.25
    shift: float = 0.04
    angle: float = 14.0
    flip: float = 0.5
    occlude: float = 0.3
    blur: float = 0.15
    noise: float = 0.2
    coarse: float = 0.15
    jpeg: float = 0.15
    grey: float = 0.1


def random_crop(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    flip_pairs: NDArray[np.int64],
    size: int,
    crop_scale: float,
    rng: np.random.Generator,
    how: Augmentation,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A random square crop around a face.

    Args:
        image: [H, W, 3] uint8.
        points: [L, 2] in image pixels.
        flip_pairs: [L] index of every point's mirror image.
        size: side of the crop in pixels.
        crop_scale: side of the undisturbed crop over the longer side of the points' box.

    Returns:
        The crop [size, size, 3] and its points [L, 2] in crop pixels.
    """
    square = square_of_box(box_of_points(points), crop_scale)
    square[:2] += rng.standard_normal(2) * how.shift * square[2]
    square[2] *= how.scale ** rng.uniform(-1, 1)
    angle = np.deg2rad(np.clip(rng.standard_normal(), -3, 3) * how.angle)
    matrix = crop_matrix(square, size, float(angle))
    if rng.random() < how.flip:
        matrix = np.array([[-1, 0, size - 1], [0, 1, 0]], np.float64) @ np.vstack([matrix, [0, 0, 1]])
        points = points[flip_pairs]
    border = (cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT)[rng.integers(3)]
    crop = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(crop, np.uint8), transform(matrix, points)


def random_pixels(image: NDArray[np.uint8], rng: np.random.Generator, how: Augmentation) -> NDArray[np.uint8]:
    """Random light, colour, occluders, blur, noise, coarseness and compression on an image [S, S, 3]."""
    image = _occlude(image, rng) if rng.random() < how.occlude else image
    image = _light(image, rng, grey=rng.random() < how.grey)
    size = image.shape[0]
    if rng.random() < how.coarse:
        small = int(size * rng.uniform(0.25, 0.7))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (size, size))  # pyright: ignore
    if rng.random() < how.blur:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 2.0)))  # pyright: ignore
    if rng.random() < how.noise:
        noisy = image + rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 15))
        image = np.clip(noisy, 0, 255).astype(np.uint8)
    if rng.random() < how.jpeg:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])[1]
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)  # pyright: ignore
    return image


def _light(image: NDArray[np.uint8], rng: np.random.Generator, grey: bool) -> NDArray[np.uint8]:
    """Gamma, contrast and a tint through one look-up table a channel; sometimes darkness, sometimes no colour."""
    ramp = np.linspace(0, 1, 256)
    gamma = np.exp(rng.normal(0, 0.35))
    gain, lift = rng.uniform(0.6, 1.25) * (0.5 if rng.random() < 0.1 else 1), rng.normal(0, 0.05)
    tables = [np.clip((ramp**gamma * gain * (1 + rng.normal(0, 0.06)) + lift) * 255, 0, 255) for _ in range(3)]
    out = cv2.LUT(image, np.stack(tables, -1).astype(np.uint8)[None])
    if grey:
        out = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    elif rng.random() < 0.3:
        flat = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        out = cv2.addWeighted(out, share := float(rng.uniform(0.3, 1.2)), flat, 1 - share, 0)
    return np.asarray(out, np.uint8)


def _occlude(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A filled ellipse or rectangle, of one colour or of a shifted piece of the image itself."""
    size = image.shape[0]
    mask = np.zeros((size, size), np.uint8)
    centre = tuple(int(v) for v in rng.integers(0, size, 2))
    half = tuple(int(v) for v in rng.uniform(0.06, 0.3, 2) * size)
    if rng.random() < 0.5:
        cv2.ellipse(mask, centre, half, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    else:
        corners = cv2.boxPoints((centre, (2.0 * half[0], 2.0 * half[1]), float(rng.uniform(0, 90))))
        cv2.fillConvexPoly(mask, corners.astype(np.int32), 255)
    if rng.random() < 0.5:
        cover = np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), image.shape)
    else:
        cover = np.roll(image, tuple(int(v) for v in rng.integers(size // 4, size, 2)), (0, 1))
    return np.where(mask[..., None] > 0, cover, image)
