"""Simulated heatmaps with known landmarks, from what a network is taught to what it emits.

A landmark is drawn uniformly from the middle of a 256-pixel crop (``margin`` of each side left free), its Gaussian is sampled on the
half-pixel grid, and white noise is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROP = 256  # pixels
SIZES = (64, 32, 16, 8, 4)  # heatmap pixels


@dataclass(frozen=True)
class MapModel:
    """What a map is drawn from.

    Attributes:
        sigma: range of sigma in heatmap pixels.
        amplitude: range of the peak.
        ratio: range of the x axis over sigma; the y axis has its inverse.
        turned: the axes are turned by any angle.
        second: height of a second peak over the first, 3 to 5 sigma away, also off the map; 0 for none.
        noise: standard deviation of the noise.
    """

    sigma: tuple[float, float] = (2.0, 2.0)
    amplitude: tuple[float, float] = (0.6, 0.95)
    ratio: tuple[float, float] = (1.0, 1.0)
    turned: bool = False
    second: float = 0.0
    noise: float = 0.02


MODELS = {
    "clean": MapModel(amplitude=(1.0, 1.0), noise=0.0),
    "nominal": MapModel(),
    "widened": MapModel(sigma=(1.6, 2.8)),
    "faint": MapModel(amplitude=(0.2, 0.6)),
    "stretched": MapModel(sigma=(2.2, 3.5), amplitude=(0.2, 0.6), ratio=(0.8, 1.2)),
    "turned": MapModel(sigma=(1.8, 3.0), amplitude=(0.4, 0.9), ratio=(0.7, 1.3), turned=True),
    "second peak": MapModel(sigma=(2.0, 2.5), second=0.6),
}
DESCRIPTIONS = {
    "clean": "sigma 2, amplitude 1, no noise",
    "nominal": "sigma 2, amplitude 0.6 to 0.95; noise 0.02 here and below",
    "widened": "sigma 1.6 to 2.8 (unknown to the decoder), amplitude 0.6 to 0.95",
    "faint": "sigma 2, amplitude 0.2 to 0.6",
    "stretched": "sigma 2.2 to 3.5, amplitude 0.2 to 0.6, the axes up to 20 % shorter and longer",
    "turned": "sigma 1.8 to 3, amplitude 0.4 to 0.9, axes up to 30 % shorter and longer, at any angle",
    "second peak": "sigma 2 to 2.5, amplitude 0.6 to 0.95, a second peak 0.6 times as high 3 to 5 sigma away",
}


def simulate(
    model: MapModel, size: int, count: int, margin: float = 0.15, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Maps [count, size, size] and the landmarks [count, 2] in heatmap pixels they were drawn around."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(margin, 1 - margin, (count, 2)) * size - 0.5
    sigma, amplitude, ratio = (rng.uniform(*r, (count, 1, 1)) for r in (model.sigma, model.amplitude, model.ratio))
    angle = rng.uniform(0, np.pi, (count, 1, 1)) if model.turned else np.zeros((count, 1, 1))
    maps = amplitude * gaussian(points, size, sigma * ratio, sigma / ratio, angle)
    if model.second:
        away, bearing = rng.uniform(3, 5, (count, 1)) * sigma[:, 0], rng.uniform(0, 2 * np.pi, (count, 1))
        other = points + away * np.concatenate([np.cos(bearing), np.sin(bearing)], 1)
        maps = np.maximum(maps, model.second * amplitude * gaussian(other, size, sigma, sigma, angle))
    return (maps + rng.normal(0, model.noise, maps.shape)).astype(np.float32), points


def gaussian(points: NDArray[np.float64], size: int, a: NDArray[np.float64], b: NDArray[np.float64], angle: NDArray[np.float64]):
    """[n, size, size] Gaussians of peak 1 about points [n, 2] with the axes a and b [n, 1, 1], a turned from x by the angle."""
    grid = np.arange(size)
    x, y = grid[None, None] - points[:, 0, None, None], grid[None, :, None] - points[:, 1, None, None]
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return np.exp(-((u / a) ** 2 + (v / b) ** 2) / 2)
