"""What CMake says and does where the plugin cannot, or shall not, be built."""

from __future__ import annotations

import re
import shutil

import pytest
from native_tools import ROOT, run

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="there is no cmake")

NO_COMPILER = "there is no CUDA compiler (nvcc); put it on PATH or give -DKEYPOSS_NVCC=/path/to/nvcc"
NO_HEADERS = "TensorRT's headers (NvInferRuntime.h) were not found; install TensorRT's developer package"


def configure(folder, *options):
    done = run(["cmake", "-S", ROOT, "-B", folder, *options])
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.fixture
def tools(tmp_path):
    """Options that name a compiler and headers which exist; CMake looks no further in AUTO without one of them."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include/NvInferRuntime.h").touch()
    (tmp_path / "nvcc").touch()
    found = {"KEYPOSS_NVCC": str(tmp_path / "nvcc"), "KEYPOSS_TENSORRT_INCLUDE_DIR": str(tmp_path / "include")}
    return {**found, "KEYPOSS_BUILD_PREPROCESS": "OFF"}  # the compiler would be enough for that


@pytest.mark.parametrize(("missing", "words"), [("KEYPOSS_NVCC", NO_COMPILER), ("KEYPOSS_TENSORRT_INCLUDE_DIR", NO_HEADERS)])
def test_a_missing_tool_skips_the_plugin_or_stops(tmp_path, tools, missing, words):
    options = [f"-D{name}={value}" for name, value in {**tools, missing: ""}.items()]
    code, said = configure(tmp_path / "auto", *options)
    assert (code, f"TensorRT plugin: not built, because {words}" in said) == (0, True), said
    code, said = configure(tmp_path / "on", "-DKEYPOSS_BUILD_PLUGIN=ON", *options)
    assert (code, f"The TensorRT plugin cannot be built: {words}" in said) == (1, True), said


@pytest.mark.parametrize(
    "version",
    [
        "#define NV_TENSORRT_MAJOR 10\n#define NV_TENSORRT_MINOR 2\n",
        "#define TRT_MAJOR_ENTERPRISE 8\n#define TRT_MINOR_ENTERPRISE 6\n#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE\n",
    ],
)
def test_headers_that_are_too_old(tmp_path, tools, version):
    (tmp_path / "include/NvInferVersion.h").write_text(version)
    code, said = configure(tmp_path / "build", *[f"-D{name}={value}" for name, value in tools.items()])
    assert code == 0
    assert re.search(r"are of TensorRT (10\.2|8\.6), and 10\.3 or newer is needed", said), said


def test_headers_under_tensorrt_root(tmp_path, tools):
    code, said = configure(tmp_path / "build", "-DKEYPOSS_NVCC=", f"-DTENSORRT_ROOT={tmp_path}")
    assert (code, NO_COMPILER in said) == (0, True)
    cache = (tmp_path / "build/CMakeCache.txt").read_text()
    assert f"KEYPOSS_TENSORRT_INCLUDE_DIR:PATH={tmp_path / 'include'}\n" in cache


@pytest.mark.parametrize("options", [["-DSKBUILD=2"], ["-DKEYPOSS_BUILD_HOST=ON"], ["-DKEYPOSS_BUILD_PLUGIN=OFF"]])
def test_pip_and_the_cpu_build_leave_the_plugin_alone(tmp_path, options):
    code, said = configure(tmp_path, *options)
    assert code == 0
    assert "TensorRT plugin: not built; -DKEYPOSS_BUILD_PLUGIN=ON builds it" in said
    assert "CUDA compiler" not in said
