"""The decode benchmark, with fewer maps: what the documentation says of the decoders stays true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keyposs_trt.decode import DECODERS, decode

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# Mean errors of the log fit with one scale for both axes, the default of the first version: the default may not fall behind.
LOG_FIT = {
    "nominal": (0.115, 0.235, 0.456, 1.11, 4.30),
    "widened": (0.123, 0.246, 0.502, 1.21, 5.63),
    "stretched": (0.495, 0.990, 2.08, 5.78, 19.6),
}


@pytest.fixture(scope="module")
def maps():
    sys.path.insert(0, str(BENCHMARKS))
    import simulated_maps

    yield simulated_maps
    sys.path.remove(str(BENCHMARKS))
    del sys.modules["simulated_maps"]


def mean_error(maps, kind, size, decoder, count=1500):
    heatmaps, points = maps.simulate(maps.MODELS[kind], size, count)
    return np.linalg.norm(decode(heatmaps, decoder).points - points, axis=-1).mean() * maps.CROP / size


@pytest.mark.parametrize("kind", LOG_FIT)
def test_the_default_is_better_than_the_log_fit(maps, kind):
    for size, error in zip(maps.SIZES, LOG_FIT[kind], strict=True):
        assert mean_error(maps, kind, size, "wls") < error, size


@pytest.mark.parametrize("size", [64, 32, 16, 8])
def test_the_default_is_among_the_best_on_every_kind_of_map(maps, size):
    for kind in maps.MODELS:
        if kind == "clean":  # all are exact but for rounding
            continue
        best = min(mean_error(maps, kind, size, name, 400) for name in DECODERS)
        assert mean_error(maps, kind, size, "wls", 400) < 1.1 * best, kind


def test_self_calibration_pays_where_sigma_is_unknown(maps):
    assert mean_error(maps, "widened", 32, "wls") < 0.6 * mean_error(maps, "widened", 32, "wls_known")


def test_prints_tables_and_writes_figures(tmp_path):
    command = [sys.executable, "decode.py", "--count", "20", "--repeat", "1", "--plot", tmp_path / "e.png", "--json", tmp_path / "f.json"]
    done = subprocess.run([str(c) for c in command], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    figures = json.loads((tmp_path / "f.json").read_text())
    assert sum(line.startswith("| nominal |") for line in lines) == len(DECODERS) + len(figures["parameters"]["nominal"])
    assert set(figures["errors"]["turned"]) == set(DECODERS)
    names = {row["implementation"] for row in figures["times"]}
    assert {"wls (NumPy)", "wls (ONNX Runtime)", "wls (PyTorch)", "wls (C++)", "gn (loops)", "lls (loops)", "dark (loops)"} <= names
    assert all(row["seconds"] > 0 for row in figures["times"])
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")


def test_no_such_harness():
    command = [sys.executable, "decode.py", "--gpu", "nothing", "plugin.so"]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: There is no 'nothing'")
