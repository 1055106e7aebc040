"""Mean error of the decoder on simulated maps, in pixels of a 256-pixel crop.

    python benchmarks/decode_error.py [--count 4000] [--margin 0.15] [--seed 0] [--json]

A landmark is drawn uniformly from the middle of the crop (``--margin`` of each side left free), its Gaussian is sampled on
the half-pixel grid and white noise of 0.02 is added. Three kinds of maps, from what a network is taught to what it emits:

    nominal    sigma 2, amplitude 0.6 to 0.95
    widened    sigma 1.6 to 2.8, amplitude 0.6 to 0.95
    stretched  sigma 2.2 to 3.5, amplitude 0.2 to 0.6, the axes up to 20 % shorter and longer
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.decode import wls

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROP = 256
SIZES = (64, 32, 16, 8, 4)


@dataclass(frozen=True)
class MapModel:
    """Ranges a map is drawn from: sigma in heatmap pixels, amplitude, ratio of the x axis to sigma (y has its inverse)."""

    sigma: tuple[float, float]
    amplitude: tuple[float, float]
    ratio: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.02


MODELS = {
    "nominal": MapModel((2.0, 2.0), (0.6, 0.95)),
    "widened": MapModel((1.6, 2.8), (0.6, 0.95)),
    "stretched": MapModel((2.2, 3.5), (0.2, 0.6), (0.8, 1.2)),
}
SOLVERS: dict[str, dict[str, float]] = {
    "known sigma": {"prior": float("inf")},
    "self-calibrating, prior 0.1": {"prior": 0.1},
    "self-calibrating (default)": {},
    "self-calibrating, radius 4": {"radius": 4},
}


def simulate(model: MapModel, size: int, count: int, margin: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Maps [count, size, size] and the landmarks [count, 2] in heatmap pixels they were drawn around."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(margin, 1 - margin, (count, 2)) * size - 0.5
    sigma, amplitude, ratio = (rng.uniform(*r, (count, 1, 1)) for r in (model.sigma, model.amplitude, model.ratio))
    grid = np.arange(size)
    x = (grid[None, None] - points[:, 0, None, None]) / (sigma * ratio)
    y = (grid[None, :, None] - points[:, 1, None, None]) / (sigma / ratio)
    maps = amplitude * np.exp(-(x**2 + y**2) / 2) + rng.normal(0, model.noise, (count, size, size))
    return maps.astype(np.float32), points


def mean_error(model: MapModel, size: int, solver: dict[str, float], count: int, margin: float, seed: int) -> float:
    """Mean distance between decoded and true landmarks in crop pixels."""
    maps, points = simulate(model, size, count, margin, seed)
    return float(np.linalg.norm(wls(maps, **solver).points - points, axis=-1).mean() * CROP / size)


def main() -> int:
    parser = argparse.ArgumentParser(description="Mean error of the decoder on simulated maps, pixels of a 256-pixel crop.")
    parser.add_argument("--count", type=int, default=4000, help="maps per figure (default 4000)")
    parser.add_argument("--margin", type=float, default=0.15, help="share of each side of the crop without landmarks (default 0.15)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args()
    rows = {
        (kind, name): [mean_error(model, size, solver, args.count, args.margin, args.seed) for size in SIZES]
        for kind, model in MODELS.items()
        for name, solver in SOLVERS.items()
    }
    if args.json:
        result = [{"maps": k, "solver": s, "error": dict(zip(SIZES, row, strict=True))} for (k, s), row in rows.items()]
        json.dump({"count": args.count, "margin": args.margin, "seed": args.seed, "rows": result}, sys.stdout, indent=1)
        return 0
    print("| maps | decoder | " + " | ".join(map(str, SIZES)) + " |")
    print("|---" * (2 + len(SIZES)) + "|")
    for (kind, name), row in rows.items():
        print(f"| {kind} | {name} | " + " | ".join(f"{e:.3g}" for e in row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
