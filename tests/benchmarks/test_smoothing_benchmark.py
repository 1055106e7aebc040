"""The benchmarks of tracking and smoothing run and print their tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def cells(output: str, row: str) -> list[str]:
    line = next(line for line in output.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_smoothing() -> None:
    done = run("benchmarks/smoothing.py", "--model", "face68-8", "--length", "40")
    assert done.returncode == 0, done.stderr
    raw, steered = (list(map(float, cells(done.stdout, row))) for row in ("raw", "steered"))
    assert steered[0] < 0.4 * raw[0]  # jitter
    assert steered[3] < 1.1 * raw[3]  # error of the moving face
    assert abs(raw[6]) < 0.05  # the raw mouth is not late on itself
    jitter, _, fast = map(float, cells(done.stdout, "held and ahead"))
    loose, _, behind = map(float, cells(done.stdout, "the box of the landmarks"))
    assert jitter < loose
    assert fast < 0.5 * behind
    assert int(cells(done.stdout, "tracking and steered")[0]) > 0


def test_lost_faces() -> None:
    done = run("benchmarks/lost_faces.py", "--model", "face68-4")
    assert done.returncode == 0, done.stderr
    score, spread, by_score, by_spread, _ = cells(done.stdout, "face68-4")
    assert float(score) < float(spread)
    assert float(by_score.rstrip("%")) > 50 > 5 > float(by_spread.rstrip("%"))


def test_no_such_model() -> None:
    for benchmark in ("smoothing", "lost_faces"):
        done = run(f"benchmarks/{benchmark}.py", "--model", "nothing")
        assert done.returncode == 1
        assert done.stderr.startswith("error: There is no model 'nothing'")
