"""The examples for other libraries' arrays: without a GPU or the library they end with one sentence."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LIBRARIES = {"gpu_pytorch": "torch", "gpu_cupy": "cupy", "gpu_pycuda": "pycuda"}


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command, hidden = [sys.executable, EXAMPLES / f"{name}.py", *arguments], {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=hidden, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", LIBRARIES)
def test_without_a_gpu_or_the_library_it_is_one_sentence(name):
    done = run(name, "face.plan")
    there = find_spec(LIBRARIES[name]) is not None
    missing = r"This example needs (PyTorch|CuPy|PyCUDA): pip install \S+"
    expected = r"This example needs an NVIDIA GPU, and there is none here\." if there else missing
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(expected, done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_without_an_engine_it_says_how_to_call_it():
    done = run("gpu_pytorch")
    assert done.returncode == 1
    assert "python examples/gpu_pytorch.py face68-32_fp16_tensorrt.plan" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", LIBRARIES)
def test_they_are_short_and_say_what_they_do(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) < 60
    assert f"python examples/{name}.py" in (ast.get_docstring(ast.parse(text)) or "")
