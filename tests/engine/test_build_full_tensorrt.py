"""Builds with full TensorRT, which the RTX library stands in for: its GPU and its plugin."""

from __future__ import annotations

import hashlib
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from keyposs_trt.engine import build as module
from keyposs_trt.engine.build import build_engine
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.manifest import read_manifest
from keyposs_trt.errors import BackendError
from keyposs_trt.graph import change_decoder, detach_decoder

if TYPE_CHECKING:
    from pathlib import Path

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.rtx


@pytest.fixture
def full_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 10 as far as building goes: the RTX library without targets, which builds without a GPU."""
    fake = ModuleType("tensorrt")
    fake.__dict__.update(trt.__dict__)
    fake.__dict__["__version__"] = "10.3.0.26"
    fake.__dict__.pop("ComputeCapability")
    monkeypatch.setitem(sys.modules, "tensorrt", fake)


@pytest.fixture
def plugin_model(model: Path, tmp_path: Path) -> Path:
    onnx.save(change_decoder(onnx.load(model), "plugin"), tmp_path / "plugin.onnx")
    return tmp_path / "plugin.onnx"


@pytest.mark.usefixtures("full_tensorrt")
def test_full_tensorrt_takes_the_same_path(model, tmp_path, monkeypatch):
    orin = Driver("12.6", (Gpu("Orin", (8, 7)),))
    monkeypatch.setattr(module, "query_driver", lambda: orin)
    (result,) = build_engine(model, tmp_path, precision="fp16")
    m = result.manifest
    assert result.plan.name == "tiny_fp16_tensorrt.plan"
    assert (m.runtime, m.runtime_version, m.targets, m.gpu, m.cuda) == ("tensorrt", "10.3.0.26", ("sm87",), "Orin", "12.6")


@pytest.mark.usefixtures("full_tensorrt")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_full_tensorrt_gets_the_plugin_before_the_graph(plugin_model, tmp_path, monkeypatch, precision):
    """The parser here sees the graph without its decoder, since this library takes no plugins; all else is as with TensorRT."""
    real, fake = trt.OnnxParser, sys.modules["tensorrt"]
    library = tmp_path / "plugin.so"
    library.write_bytes(b"a library")
    loaded: list[str] = []

    class Registry:
        all_creators: list[Any] = []  # noqa: RUF012

        def load_library(self, path: str) -> None:
            loaded.append(path)
            self.all_creators.append(SimpleNamespace(name="KeyPosSMultilateration", plugin_version="1", plugin_namespace=""))

    def parser(network: Any, logger: Any) -> Any:
        inner = real(network, logger)

        def parse(source: bytes) -> bool:
            assert loaded == [str(library)]
            graph = onnx.load_model_from_string(source)
            assert graph.graph.node[-1].op_type == "KeyPosSMultilateration"
            return inner.parse(detach_decoder(graph).SerializeToString())

        return SimpleNamespace(parse=parse)

    monkeypatch.setattr(fake, "get_plugin_registry", Registry)
    monkeypatch.setattr(fake, "OnnxParser", parser)
    monkeypatch.setattr(module, "query_driver", lambda: Driver("12.6", (Gpu("Orin", (8, 7)),)))
    monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", str(library))
    (result,) = build_engine(plugin_model, tmp_path / "out", precision=precision, backend="tensorrt")
    assert result.error is None
    m = read_manifest(result.plan)
    assert m.plugin == {"name": "KeyPosSMultilateration", "version": "1", "sha256": hashlib.sha256(b"a library").hexdigest()}
    assert (m.spec.decoder, m.precision_found) == ("plugin", precision)


@pytest.mark.usefixtures("full_tensorrt")
def test_full_tensorrt_without_the_plugin_library(plugin_model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "query_driver", lambda: Driver("12.6", (Gpu("Orin", (8, 7)),)))
    monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", str(tmp_path / "nowhere.so"))
    with pytest.raises(BackendError, match=r"KEYPOSS_PLUGIN_LIBRARY names '.*nowhere\.so', and there is no such file"):
        build_engine(plugin_model, tmp_path / "out", backend="tensorrt")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("full_tensorrt", "no_gpu")
def test_full_tensorrt_without_a_gpu(model, tmp_path):
    with pytest.raises(BackendError, match=r"TensorRT needs an NVIDIA GPU to build .*here with tensorrt-rtx"):
        build_engine(model, tmp_path, backend="tensorrt")
