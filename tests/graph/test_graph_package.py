from __future__ import annotations

import subprocess
import sys

import pytest
from model_zoo import tiny_spec

import keyposs_trt.graph as graph
from keyposs_trt.errors import BackendError


def test_import_is_light():
    code = (
        "import sys, keyposs_trt.graph, keyposs_trt.graph.contract, keyposs_trt.decode;"
        "print([m for m in ('onnx', 'onnxruntime', 'torch', 'cv2', 'tensorrt_rtx_bindings') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", graph.__all__)
def test_every_public_name_is_there(name):
    pytest.importorskip("onnx")
    for _ in range(2):  # the second time, a module of that name would have taken its place
        assert callable(getattr(graph, name))
    assert name in dir(graph)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        graph.nothing  # noqa: B018


@pytest.mark.parametrize(
    "call",
    ["attach_decoder", "attach_preprocessing", "change_decoder", "detach_decoder", "expand_weights", "graft", "save_model",
     "store_weights_fp16", "to_fp16"],
)  # fmt: skip
def test_without_onnx_the_remedy_is_named(call, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    arguments = {"attach_decoder": (tiny_spec(),), "change_decoder": ("wls",), "save_model": (tmp_path / "m.onnx",)}.get(call, ())
    named = {"name": "x", "sigma": 2, "grid": "corner"} if call == "graft" else {}
    with pytest.raises(BackendError, match=r"needs the onnx package; install it with: pip install onnx$"):
        getattr(graph, call)(object(), *arguments, **named)
