"""What CMake says and does where the library for crops on the GPU cannot, or shall not, be built."""

from __future__ import annotations

import re
import shutil

import pytest
from native_tools import ROOT, run

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="there is no cmake")


def configure(folder, *options):
    done = run(["cmake", "-S", ROOT, "-B", folder, *options])
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("compiler", "words"), [("", "there is no CUDA compiler (nvcc); put it on PATH"), ("/nowhere/nvcc", "there is no file /nowhere/nvcc")]
)
def test_a_missing_compiler_skips_the_library_or_stops(tmp_path, compiler, words):
    code, said = configure(tmp_path / "auto", f"-DKEYPOSS_NVCC={compiler}", "-DKEYPOSS_TENSORRT_INCLUDE_DIR=")
    assert (code, f"Preprocessing library: not built, because {words}" in said) == (0, True), said
    code, said = configure(tmp_path / "on", "-DKEYPOSS_BUILD_PLUGIN=OFF", "-DKEYPOSS_BUILD_PREPROCESS=ON", f"-DKEYPOSS_NVCC={compiler}")
    assert (code, f"The preprocessing library cannot be built: {words}" in said) == (1, True), said


@pytest.mark.parametrize("options", [["-DSKBUILD=2"], ["-DKEYPOSS_BUILD_PLUGIN=OFF"]])
def test_where_the_plugin_is_not_wanted_nor_is_the_library(tmp_path, options):
    code, said = configure(tmp_path, *options)
    assert (code, "Preprocessing library: not built; -DKEYPOSS_BUILD_PREPROCESS=ON builds it" in said) == (0, True), said
