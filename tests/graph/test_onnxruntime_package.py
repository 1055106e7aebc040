from __future__ import annotations

import sys

import onnxruntime
import pytest

from keyposs_trt.engine.session import open_session
from keyposs_trt.errors import BackendError, ModelError
from keyposs_trt.graph import read_spec
from keyposs_trt.graph.onnxruntime_package import first_line, load_session, require_onnxruntime


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
