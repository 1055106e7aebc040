"""Models, arguments, folders and GPUs that a TensorRT-RTX build refuses, and the words it does so with."""

from __future__ import annotations

from typing import Any

import pytest
from build_tools import edited, names
from model_zoo import heatmap_network, tiny_spec

from keyposs_trt.engine import build as module
from keyposs_trt.engine.build import build_engine
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.errors import BackendError, BuildError, InputError, KeypossError, ModelError, OutputError, UsageError
from keyposs_trt.graph import change_decoder

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.rtx


@pytest.mark.parametrize("domain", ["", "keyposs"])
def test_plugin_operators_are_refused_before_parsing(model, tmp_path, domain, monkeypatch):
    def edit(proto: Any) -> None:
        proto.graph.node[-1].op_type = "KeypossMultilateration"
        proto.graph.node[-1].domain = domain

    monkeypatch.setattr(trt, "OnnxParser", None)
    (result,) = build_engine(edited(model, tmp_path / "p.onnx", edit), tmp_path / "out", precision="fp32", backend="tensorrt-rtx")
    assert "'KeypossMultilateration', which is no standard operator" in str(result.error)


def test_our_plugin_is_refused_before_parsing_with_its_remedies(model, tmp_path, monkeypatch):
    monkeypatch.setattr(trt, "OnnxParser", None)
    path = tmp_path / "p.onnx"
    onnx.save(change_decoder(onnx.load(model), "plugin"), path)
    results = build_engine(path, tmp_path / "out", backend="tensorrt-rtx")
    assert [str(r.error) for r in results] == 2 * [
        f"'{path}' decodes with the plugin KeyPosSMultilateration, and TensorRT-RTX takes no plugins; "
        "export the model with --decoder onnx, or build with --backend tensorrt."
    ]
    assert names(tmp_path / "out") == []


def test_parser_error_is_one_sentence(model, tmp_path):
    def edit(proto: Any) -> None:
        (conv,) = (n for n in proto.graph.node if n.name == "stem")
        conv.input[1] = "rows.weight"  # a kernel for another number of channels

    (result,) = build_engine(edited(model, tmp_path / "p.onnx", edit), tmp_path / "out", precision="fp32", backend="tensorrt-rtx")
    assert isinstance(result.error, BuildError)
    assert "\n" not in str(result.error)
    assert "cannot read" in str(result.error)
    assert "Conv" in str(result.error)
    assert result.log
    assert names(tmp_path / "out") == []


def test_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Cannot make the folder '.*file/sub'"):
        build_engine(model, tmp_path / "file" / "sub", backend="tensorrt-rtx", progress=pytest.fail)


def test_plan_that_cannot_be_written(model, tmp_path):
    (tmp_path / "tiny_fp32_tensorrt-rtx.plan").mkdir()
    (result,) = build_engine(model, tmp_path, precision="fp32", backend="tensorrt-rtx")
    assert isinstance(result.error, OutputError)
    assert names(tmp_path) == ["tiny_fp32_tensorrt-rtx.plan"]


def test_fixed_batch(model, tmp_path):
    def edit(proto: Any) -> None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 2

    with pytest.raises(ModelError, match="N, 32, 32, 3"):
        build_engine(edited(model, tmp_path / "two.onnx", edit), tmp_path / "out", backend="tensorrt-rtx")


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, KeypossError), (b"", InputError), (b"\x08\x09garbage", ModelError), (b"\x89PNG", ModelError), (bytes(1000), ModelError)],
)
def test_unreadable_model(tmp_path, content, error):
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=r"bad\.onnx"):
        build_engine(path, tmp_path / "out", backend="tensorrt-rtx")
    assert names(tmp_path / "out") == []


def test_truncated_model(model, tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    with pytest.raises(ModelError, match="damaged"):
        build_engine(path, tmp_path / "out", backend="tensorrt-rtx")


def test_foreign_model(tmp_path):
    path = tmp_path / "foreign.onnx"
    onnx.save(heatmap_network(points=2, heatmap_size=8, input_size=16), path)
    with pytest.raises(ModelError, match="without keyposs metadata"):
        build_engine(path, tmp_path / "out", backend="tensorrt-rtx")


def test_metadata_that_promise_other_outputs(model, tmp_path):
    def edit(proto: Any) -> None:
        spec = tiny_spec(points=5, heatmap_size=16, input_size=32)
        onnx.helper.set_model_props(proto, spec.to_metadata())

    with pytest.raises(ModelError, match="by its metadata it gives landmarks, scores, covariance; export"):
        build_engine(edited(model, tmp_path / "m.onnx", edit), tmp_path / "out", backend="tensorrt-rtx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"precision": "fp8"}, "'fp8' is no precision; known are fp32, fp16, int8"),
        ({"precision": ()}, "No precision"),
        ({"batch": (4, 2, 8)}, "4:2:8 makes no sense"),
        ({"batch": (0, 1, 2)}, "0:1:2 makes no sense"),
        ({"workspace": 0}, "workspace must be positive"),
        ({"gpu": ("sm90",)}, "'sm90' is no GPU target.*sm86"),
        ({"backend": "onnxruntime"}, "no engine backend"),
    ],
)
def test_arguments_that_make_no_sense(model, tmp_path, arguments, words):
    with pytest.raises(UsageError, match=words):
        build_engine(model, tmp_path, **{"backend": "tensorrt-rtx", **arguments})


@pytest.mark.usefixtures("no_gpu")
def test_current_gpu_needs_a_gpu(model, tmp_path):
    with pytest.raises(BackendError, match=r"needs an NVIDIA GPU .*no NVIDIA driver.*name the GPUs"):
        build_engine(model, tmp_path, gpu="current", backend="tensorrt-rtx")


def test_current_gpu_that_rtx_does_not_know(model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "query_driver", lambda: Driver("13.0", (Gpu("NVIDIA H100", (9, 0)),)))
    with pytest.raises(BackendError, match=r"does not know the GPU here, NVIDIA H100 \(sm90\); use tensorrt"):
        build_engine(model, tmp_path, gpu="current", backend="tensorrt-rtx")
