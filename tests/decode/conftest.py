from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from odd_maps import gaussians

LOOPS = Path(__file__).resolve().parents[2] / "benchmarks" / "plain_loops.py"


@pytest.fixture(scope="session")
def loops():
    """The benchmark with the published decoders as plain loops: the second opinion."""
    spec = importlib.util.spec_from_file_location("plain_loops", LOOPS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["plain_loops"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["plain_loops"]


@pytest.fixture(scope="session")
def noisy():
    """[count, size, size] Gaussians of sigma 2 and amplitude 0.6 to 0.95 anywhere on the map, with white noise of 0.02."""

    def maps(count, size, seed):
        rng = np.random.default_rng(seed)
        clean = rng.uniform(0.6, 0.95, (count, 1, 1)) * gaussians(rng.uniform(-0.5, size - 0.5, (count, 2)), size)
        return (clean + rng.normal(0, 0.02, clean.shape)).astype(np.float32)

    return maps
