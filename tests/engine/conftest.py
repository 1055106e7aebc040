"""Fixtures that several modules of this folder share."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from fake_tensorrt import Machine, make_machine
from model_zoo import tiny_model

from keyposs_trt.engine import build, native_library, plugin_library, preprocess_library, tensorrt_runner
from keyposs_trt.engine.gpu import Driver
from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built most often: without a decoder, which takes most of a build."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    return tiny_model(path, points=5, heatmap_size=16, input_size=32, decoder="none")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds find no GPU."""
    monkeypatch.setattr(build, "query_driver", lambda: Driver(None, (), "no NVIDIA driver (libcuda.so.1 not found)"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Makes machines, where the library that makes crops is not built; at the end each has its memory, streams and graphs back."""
    made: list[Machine] = []

    def make(**options) -> Machine:
        m = make_machine(monkeypatch, tmp_path, **options)
        monkeypatch.setattr(tensorrt_runner, "CudaDevice", lambda: m.device)
        made.append(m)
        return m

    def none() -> None:
        raise BackendError("Crops on the GPU need a library, and it is not here: build it.")

    monkeypatch.setattr(tensorrt_runner, "PreprocessLibrary", none)
    yield make
    gc.collect()  # arrays of other libraries may hold results in cycles
    for m in made:
        m.end_users_streams()
    assert [m.device.left() for m in made] == [{}] * len(made)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package without a library."""
    for library in (plugin_library, preprocess_library):
        monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(native_library, "_PACKAGE", tmp_path / "keyposs_trt")
    monkeypatch.setattr(native_library.sysconfig, "get_path", {"platlib": str(tmp_path / "site-packages")}.__getitem__)
    (tmp_path / "keyposs_trt").mkdir()
    return tmp_path / "keyposs_trt"
