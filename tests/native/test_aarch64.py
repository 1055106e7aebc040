"""The native code for aarch64 (Jetson): it compiles, and the solver gives there what it gives here."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from native_tools import PLUGIN, run
from numpy.testing import assert_allclose

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
STRICT = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-I", str(PLUGIN)]
PROGRAM = Path(__file__).with_name("landmarks.cpp")

pytestmark = [
    pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine is aarch64: the other tests are for it"),
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"there is no {COMPILER}: apt-get install g++-aarch64-linux-gnu"),
]
emulated = pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"there is no {EMULATOR}: apt-get install qemu-user")


def compile_with(compiler, *arguments):
    done = run([compiler, *STRICT, *arguments])
    assert (done.returncode, done.stderr) == (0, "")


def run_emulated(program):
    done = run([EMULATOR, "-L", "/usr/aarch64-linux-gnu", program])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_library_for_the_cpu_compiles(tmp_path):
    compile_with(COMPILER, "-shared", "-fPIC", PLUGIN / "host.cpp", "-o", tmp_path / "libhost.so")
    assert (tmp_path / "libhost.so").stat().st_size > 0


def test_the_plugin_compiles(tmp_path, tensorrt_include, cuda_include):
    """What of it is C++; the kernel does not differ between processors."""
    sources = sorted(PLUGIN.glob("*plugin*.cpp")) + [PLUGIN / f"multilateration_{part}.cpp" for part in ("creator", "attributes")]
    assert len(sources) == 5
    for source in sources:
        compile_with(COMPILER, "-isystem", tensorrt_include, "-isystem", cuda_include, "-fPIC", "-c", source, "-o", tmp_path / "part.o")


@emulated
def test_no_wrong_value_on_any_small_map(tmp_path):
    compile_with(COMPILER, PLUGIN / "check.cpp", "-o", tmp_path / "check")
    assert run_emulated(tmp_path / "check") == "16200 maps, 0 wrong values\n"


@emulated
def test_the_same_landmarks_as_here(tmp_path, cxx):
    compile_with(COMPILER, PROGRAM, "-o", tmp_path / "there")
    compile_with(cxx, PROGRAM, "-o", tmp_path / "here")
    there = np.array([line.split() for line in run_emulated(tmp_path / "there").splitlines()], np.float32)
    here = np.array([line.split() for line in run([tmp_path / "here"]).stdout.splitlines()], np.float32)
    assert here.shape == (360, 6)
    assert_allclose(there[:, :3], here[:, :3], atol=1e-4)
    assert_allclose(there[:, 3:], here[:, 3:], rtol=5e-3, atol=1e-4)
