"""The stage benchmark runs and says what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from model_zoo import tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("decoder", ["wls", "none"])
def test_every_stage_is_timed(tmp_path: Path, decoder: str) -> None:
    model = tiny_model(tmp_path / "tiny.onnx", decoder=decoder)
    command = [sys.executable, "benchmarks/stages.py", "--model", str(model), "--repeat", "2", "--threads", "1", "--json", "-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["stages"]) == ["detect", "crop", "network", "decode", "map back", "draw"]
    assert all(0 < times["p50"] <= times["p90"] for times in result["stages"].values())
    assert (result["faces"], result["threads"], result["repeat"]) == (1, 1, 2)


def test_no_such_model() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/stages.py", "--model", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no model 'nothing'")
