"""The benchmark's table, with fewer maps: the figures the documentation prints must stay true."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "decode_error.py"
EXPECTED = {
    "nominal": (0.115, 0.225, 0.457, 1.08, 4.14),
    "widened": (0.123, 0.240, 0.489, 1.20, 4.93),
    "stretched": (0.478, 0.961, 1.91, 5.84, 18.5),
}


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("decode_error", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["decode_error"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["decode_error"]


@pytest.mark.parametrize("kind", EXPECTED)
def test_error_of_the_default_solver(bench, kind):
    for size, expected in zip(bench.SIZES, EXPECTED[kind], strict=True):
        error = bench.mean_error(bench.MODELS[kind], size, {}, count=800, margin=0.15, seed=0)
        assert error == pytest.approx(expected, rel=0.1), size


def test_self_calibration_pays_where_sigma_is_unknown(bench):
    errors = [bench.mean_error(bench.MODELS["widened"], 32, solver, 500, 0.15, 0) for solver in ({}, {"prior": float("inf")})]
    assert errors[0] < 0.6 * errors[1]


def test_prints_a_table(bench, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["decode_error.py", "--count", "20"])
    assert bench.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(bench.MODELS) * len(bench.SOLVERS)
