from __future__ import annotations

import sys

import onnxruntime
import pytest

from keyposs_trt.engine.session import open_session
from keyposs_trt.errors import BackendError, ModelError
from keyposs_trt.graph import read_spec
from keyposs_trt.graph.onnxruntime_package import first_line, load_session, require_onnxruntime, session_in_memory


def test_first_line():
    assert first_line(RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model failed.\nmore")) == "Load model failed"
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_every_way_in_says_the_same(tmp_path, content):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    said = set()
    for load in (open_session, read_spec, lambda p: load_session(p, onnxruntime.SessionOptions(), ["CPUExecutionProvider"])):
        with pytest.raises(ModelError, match=r"m\.onnx'") as e:
            load(path)
        said.add(str(e.value))
    assert len(said) == 1


def test_without_onnxruntime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for call in (require_onnxruntime, lambda: open_session("m.onnx")):
        with pytest.raises(BackendError, match="install it with: pip install onnxruntime"):
            call()


def model_with(operator, domain):
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    value = h.make_tensor_value_info
    graph = h.make_graph([h.make_node(operator, ["x"], ["y"], "n", domain=domain)], "g", [value("x", 1, [1])], [value("y", 1, [1])])
    opsets = [h.make_opsetid("", 17), *([h.make_opsetid(domain, 1)] if domain else [])]
    return h.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.parametrize("domain", ["", "trt.plugins", "mine"])
def test_the_plugin_is_refused_with_its_remedies(domain):
    with pytest.raises(BackendError) as e:
        session_in_memory(model_with("KeyPosSMultilateration", domain), "m.onnx")
    assert str(e.value) == (
        "'m.onnx' decodes with TensorRT's plugin KeyPosSMultilateration, which ONNX Runtime cannot run; export it with 'keyposs-trt export "
        "m.onnx --decoder onnx', or build an engine with 'keyposs-trt build m.onnx --backend tensorrt'."
    )


@pytest.mark.parametrize(("operator", "domain", "named"), [("Odd", "", "Odd"), ("MMCVRoiAlign", "mmcv", "mmcv:MMCVRoiAlign")])
def test_other_unknown_operators_are_named(operator, domain, named):
    with pytest.raises(
        ModelError, match=f"uses the operator '{named}', which ONNX Runtime does not have; export it with standard operators"
    ):
        session_in_memory(model_with(operator, domain), "m.onnx")


def test_the_refusal_needs_no_onnx_package(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(model_with("KeyPosSMultilateration", "trt.plugins"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendError, match="--decoder onnx"):
        read_spec(path)
