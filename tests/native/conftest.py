"""What the native tests are compiled with, and the plugin and the crops, compiled once."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from native_tools import ROOT, Build, first_with, gpu_architecture, run

from keyposs_trt.engine.preprocess_library import PreprocessLibrary


@pytest.fixture(scope="session")
def cxx() -> str:
    found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if found is None:
        pytest.skip("there is no C++ compiler")
    return found


@pytest.fixture(scope="session")
def cuda_include() -> Path:
    """CUDA's headers: of the toolkit, or of the packages that PyTorch brings."""
    packages = sorted(Path(p) for path in sys.path for p in Path(path).glob("nvidia/*/include"))
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    found = first_with("cuda_fp16.h", [*(Path(h) / "include" for h in homes if h), "/usr/local/cuda/include", *packages])
    if found is None:
        pytest.skip("there are no CUDA headers")
    return found


@pytest.fixture(scope="session")
def tensorrt_include() -> Path:
    """TensorRT's headers: named, downloaded by `make .venv/.headers`, or installed."""
    named = [os.environ.get(name) for name in ("KEYPOSS_TENSORRT_INCLUDE_DIR", "TENSORRT_ROOT")]
    system = ["/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu"]
    found = first_with(
        "NvInferRuntime.h", [*named, *(Path(n) / "include" for n in named if n), Path(sys.prefix) / "tensorrt-headers", *system]
    )
    if found is None:
        pytest.skip("there are no TensorRT headers: `make .venv/.headers` downloads them")
    return found


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory, tensorrt_include: Path, cxx: str) -> Build:
    """The plugin and its harness, for one GPU architecture alone to be quick."""
    for tool in ("cmake", "nvcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    folder = tmp_path_factory.mktemp("plugin")
    options = [f"-DKEYPOSS_TENSORRT_INCLUDE_DIR={tensorrt_include}", f"-DKEYPOSS_CUDA_ARCHITECTURES={gpu_architecture() or 86}"]
    configured = run(["cmake", "-S", ROOT, "-B", folder, "-DKEYPOSS_BUILD_PLUGIN=ON", "-DKEYPOSS_BUILD_HARNESS=ON", *options])
    assert configured.returncode == 0, configured.stdout + configured.stderr
    built = run(["cmake", "--build", folder, "--parallel", "2"])
    log = configured.stdout + configured.stderr + built.stdout + built.stderr
    assert built.returncode == 0, log
    return Build(folder / "plugins/multilateration", log)


@pytest.fixture(scope="session")
def preprocess_host(tmp_path_factory: pytest.TempPathFactory, cxx: str) -> PreprocessLibrary:
    """The maths of plugins/preprocess for the CPU."""
    if shutil.which("cmake") is None:
        pytest.skip("there is no cmake")
    folder = tmp_path_factory.mktemp("preprocess")
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DKEYPOSS_BUILD_HOST=ON", f"-DCMAKE_CXX_COMPILER={cxx}"],
        ["cmake", "--build", folder, "--target", "keyposs_preprocess_host"],
    ):
        done = run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    return PreprocessLibrary(folder / "plugins/preprocess/libkeyposs_preprocess_host.so")
