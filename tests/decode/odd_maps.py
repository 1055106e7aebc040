"""Maps every implementation of the decoder must survive and agree on, seeded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def gaussians(points: NDArray[np.float64], size: int, sigma: float | NDArray[np.float64] = 2.0) -> NDArray[np.float64]:
    """[n, size, size] Gaussians of amplitude 1 around points [n, 2] in heatmap pixels."""
    grid = np.arange(size)
    sigma = np.reshape(sigma, (-1, 1, 1))
    square = (grid[None, None] - points[:, 0, None, None]) ** 2 + (grid[None, :, None] - points[:, 1, None, None]) ** 2
    return np.exp(-square / (2 * sigma**2))


def odd_maps(size: int, count: int = 40, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """[count, size, size] float32 maps by kind: random, border, flat, negative, NaN and Inf, and what else goes wrong."""
    rng = np.random.default_rng(seed)
    shape = (count, size, size)
    blobs = gaussians(rng.uniform(-3, size + 2, (count, 2)), size)
    noisy = blobs + rng.normal(0, 0.3, shape)
    holes = noisy.copy()
    lot = rng.uniform(size=shape)
    for bad, (low, high) in {np.nan: (0, 0.1), np.inf: (0.1, 0.15), -np.inf: (0.15, 0.2)}.items():
        holes[(lot >= low) & (lot < high)] = bad
    sparse = np.where(lot < rng.uniform(0.5, 1, (count, 1, 1)), np.nan, noisy)
    lines = np.zeros(shape)
    for i, k in enumerate(rng.integers(0, size, count)):
        place = ((k, slice(None)), (slice(None), k), (np.arange(size), np.arange(size)))[i % 3]
        lines[i][place] = rng.uniform(0.1, 1, size)
    corners = np.array([[0, 0], [size - 1, 0], [0, size - 1], [size - 1, size - 1], [-0.5, size / 2], [size / 2, size - 0.5]])
    maps = {
        "random": rng.normal(0, 1, shape),
        "uniform": rng.uniform(0, 1, shape),
        "blobs": blobs,
        "border": gaussians(np.resize(corners, (count, 2)) + rng.uniform(-0.4, 0.4, (count, 2)), size),
        "sharp": blobs**8,
        "faint": blobs * 10.0 ** rng.uniform(-13, -6, (count, 1, 1)),
        "loud": blobs * 1e10,
        "flat": np.broadcast_to(rng.uniform(0, 1, (count, 1, 1)), shape),
        "zero": np.zeros(shape),
        "negative": -rng.uniform(0, 1, shape),
        "negative flat": np.full(shape, -1.0),
        "nan and inf": holes,
        "sparse": sparse,
        "all nan": np.full(shape, np.nan),
        "all inf": np.full(shape, np.inf),
        "all -inf": np.full(shape, -np.inf),
        "ties": np.round(rng.uniform(0, 1, shape) * 4) / 4,
        "lines": lines,
        "one pixel": np.eye(size * size)[rng.integers(0, size * size, count)].reshape(shape),
    }
    return {kind: np.array(m, np.float32) for kind, m in maps.items()}
