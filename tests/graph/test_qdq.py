from __future__ import annotations

import collections
import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from model_zoo import heatmap_network, tiny_model, tiny_spec
from onnx import helper, numpy_helper

from keyposs_trt.errors import BuildError, ModelError
from keyposs_trt.graph import attach_decoder, attach_preprocessing, change_decoder, is_quantised, quantise, save_model
from keyposs_trt.graph.onnxruntime_package import session_in_memory
from keyposs_trt.graph.placement import place
from keyposs_trt.graph.qdq import channel_axis, group_ranges, network_of, quantised_weights, weight_scales

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
SPEC = {"points": 5, "heatmap_size": 16, "input_size": 32}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return onnx.load(tiny_model(tmp_path_factory.mktemp("qdq") / "tiny.onnx", **SPEC))


def ranges_of(model) -> dict[str, float]:
    return dict.fromkeys(place(network_of(model).graph).tensors, 4.0)


def crops(count: int = 3) -> np.ndarray:
    image = np.zeros((count, 32, 32, 3), np.uint8)
    for i in range(count):
        image[i, 10 + 4 * i : 12 + 4 * i, 14:16] = 255
    return image


def test_types_from_end_to_end(model):
    found = quantise(model, ranges_of(model))
    assert is_quantised(found)
    assert not is_quantised(model)
    graph = onnx.shape_inference.infer_shapes(found, check_type=True, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    constants = {i.name: i for i in graph.initializer}
    counts = collections.Counter(n.op_type for n in graph.node)
    assert counts["QuantizeLinear"] == 1  # of activations alone: weights are stored as int8
    (rows,) = (n for n in graph.node if n.name == "rows")
    makers = {o: n for n in graph.node for o in n.output}
    assert [makers[name].op_type for name in rows.input[:2]] == ["DequantizeLinear"] * 2
    weights = makers[rows.input[1]]
    assert constants[weights.input[0]].data_type == onnx.TensorProto.INT8
    assert numpy_helper.to_array(constants[weights.input[2]]).tolist() == [0] * 5  # symmetric
    assert next(a.i for a in weights.attribute if a.name == "axis") == 0
    assert types[rows.input[0]] == types[rows.output[0]] == onnx.TensorProto.FLOAT16
    assert [(o.name, o.type.tensor_type.elem_type) for o in graph.output] == [(n, 1) for n in ("landmarks", "scores", "covariance")]


def test_the_twin_computes_as_written(model):
    """Without fusing, Q and DQ round and the convolution runs on what they give: done here by hand."""
    ranges = ranges_of(model)
    network = network_of(model)
    (tensor,) = ranges
    whole = onnx.ModelProto.FromString(network.SerializeToString())
    whole.graph.output.append(helper.make_tensor_value_info(tensor, 1, None))
    spots, _ = session_in_memory(whole.SerializeToString(), "float").run([tensor, "heatmaps"], {"image": crops()})
    step = 4.0 / 127
    spots = np.clip(np.rint(spots / step), -128, 127) * step
    weights = {i.name: numpy_helper.to_array(i) for i in network.graph.initializer}
    rows = weights["rows.weight"]
    scales = weight_scales(rows, 0)
    rows = quantised_weights(rows, scales, 0) * scales[:, None, None, None]
    part = onnx.utils.Extractor(whole)
    whole.graph.value_info.append(helper.make_tensor_value_info(tensor, 1, None))
    tail = part.extract_model([tensor], ["heatmaps"])
    for weight in tail.graph.initializer:
        if weight.name == "rows.weight":
            weight.CopyFrom(numpy_helper.from_array(rows.astype(np.float32), "rows.weight"))
    expected = session_in_memory(tail.SerializeToString(), "by hand").run(None, {tensor: spots.astype(np.float32)})[0]
    found = quantise(change_decoder(model, "none"), ranges, fp16=False)
    maps = session_in_memory(found.SerializeToString(), "int8", exact=True).run(None, {"image": crops()})[0]
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_fused_integer_kernels_give_something_else():
    """The reason for ``exact``: large weights and values saturate in ONNX Runtime's fused kernels on processors without VNNI."""
    rng = np.random.default_rng(0)
    weights = rng.choice([-1.0, 1.0], (8, 64, 3, 3)).astype(np.float32)
    value, node = helper.make_tensor_value_info, helper.make_node
    constants = {"w": quantised_weights(weights, np.full(8, 1 / 127), 0), "ws": np.full(8, 1 / 127, np.float32), "wz": np.zeros(8, np.int8)}
    constants |= {"s": np.float32(1 / 255), "z": np.uint8(0), "os": np.float32(8.0), "oz": np.uint8(128)}
    graph = helper.make_graph(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
            node("Conv", ["d", "wd"], ["c"], kernel_shape=[3, 3]),
            node("QuantizeLinear", ["c", "os", "oz"], ["cq"]),
            node("DequantizeLinear", ["cq", "os", "oz"], ["y"]),
        ],
        "g",
        [value("x", 1, [1, 64, 8, 8])],
        [value("y", 1, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    x = np.ones((1, 64, 8, 8), np.float32)
    processor = Path("/proc/cpuinfo").read_text()
    exact = session_in_memory(model, "exact", exact=True).run(None, {"x": x})[0]
    want = weights.sum((1, 2, 3))
    assert np.abs(exact[0, :, 3, 3] - want).max() <= 4.01  # half a step of the output
    fused = session_in_memory(model, "fused").run(None, {"x": x})[0]
    saturates = platform.machine() == "x86_64" and not any(name in processor for name in ("avx512_vnni", "avx_vnni"))
    assert (np.abs(fused - exact).max() > 8) == saturates


def test_weights_round_within_half_a_step_of_their_channel():
    weights = np.random.default_rng(1).normal(0, [[[[0.01]]], [[[1]]], [[[100]]]], (3, 4, 3, 3)).astype(np.float16)
    scales = weight_scales(weights, 0, np.float16)
    assert scales.dtype == np.float16
    packed = quantised_weights(weights, scales, 0)
    assert packed.min() >= -127
    back = packed * scales.astype(np.float64)[:, None, None, None]
    assert (np.abs(back - weights).reshape(3, -1).max(1) <= scales.astype(np.float64) / 2 * (1 + 1e-6)).all()


def test_a_channel_of_zeros_and_one_of_tiny_weights():
    weights = np.zeros((2, 1, 1, 1), np.float32)
    weights[1] = 1e-12
    assert weight_scales(weights, 0).tolist() == [1.0, pytest.approx(2.0**-24)]
    assert quantised_weights(weights, weight_scales(weights, 0), 0).ravel().tolist() == [0, 0]


def test_channel_axes():
    node = helper.make_node
    assert channel_axis(node("Conv", ["x", "w"], ["y"])) == 0
    assert channel_axis(node("ConvTranspose", ["x", "w"], ["y"])) == 1
    assert channel_axis(node("Gemm", ["x", "w"], ["y"])) == 1
    assert channel_axis(node("Gemm", ["x", "w"], ["y"], transB=1)) == 0


def test_decoder_stays_in_float_whatever_it_is(model):
    ranges = ranges_of(model)
    whole = quantise(model, ranges)
    plugin = quantise(change_decoder(model, "plugin"), ranges)
    assert plugin.graph.node[-1].op_type == "KeyPosSMultilateration"
    decode = [n for n in whole.graph.node if n.name.startswith("decode/")]
    assert decode
    assert not any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in decode)
    points = [session_in_memory(m.SerializeToString(), "m", exact=True).run(["landmarks"], {"image": crops()})[0] for m in (model, whole)]
    assert np.abs(points[0] - points[1]).max() < 0.5


def test_groups_take_the_largest_range():
    class Placed:
        tensors = ("a", "b", "c")
        group = {"a": "a", "b": "a", "c": "c"}  # noqa: RUF012

    assert group_ranges(Placed, {"a": 1.0, "b": 3.0, "c": 2.0}, "m") == {"a": 3.0, "b": 3.0, "c": 2.0}


@pytest.mark.parametrize(
    ("value", "words"), [(None, "has no range"), (0.0, "is 0"), (float("nan"), "is nan"), (1e-30, "beyond what a scale")]
)
def test_ranges_that_make_no_sense(model, value, words):
    ranges = ranges_of(model)
    (name,) = ranges
    with pytest.raises(BuildError, match=words):
        quantise(model, {} if value is None else {name: value})


def test_quantised_twice(model):
    with pytest.raises(ModelError, match="'tiny' is quantised already; give the model it was made from"):
        quantise(quantise(model, ranges_of(model)), ranges_of(model))


def test_corrections_are_added_to_the_bias(model):
    plain = change_decoder(model, "none")
    ranges = ranges_of(model)
    added = {"rows": np.arange(5.0), "stem": np.ones(8)}  # the stem is not quantised and keeps its bias
    found = [quantise(plain, ranges, corrections=c, fp16=False) for c in (None, added)]
    constants = [{i.name: numpy_helper.to_array(i) for i in m.graph.initializer} for m in found]
    assert constants[1]["int8/rows/bias"].tolist() == [0, 1, 2, 3, 4]
    assert constants[1].keys() - constants[0].keys() == {"int8/rows/bias"}


def test_the_file_is_read_by_tensorrt_rtx(model, tmp_path):
    path = tmp_path / "q.onnx"
    save_model(quantise(model, ranges_of(model)), path)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, logger).parse(path.read_bytes())
    kinds = collections.Counter(network.get_layer(i).type.name for i in range(network.num_layers))
    assert kinds["QUANTIZE"] == 1
    assert kinds["DEQUANTIZE"] == 2


def test_a_network_of_another_opset(tmp_path):
    network = heatmap_network(points=5, heatmap_size=16, input_size=32)
    model = attach_decoder(attach_preprocessing(network), tiny_spec(**SPEC))
    assert next(o.version for o in network_of(model).opset_import if o.domain == "") == 19
    newer = onnx.version_converter.convert_version(change_decoder(model, "none"), 21)
    assert next(o.version for o in network_of(newer).opset_import if o.domain == "") == 21


def test_the_runner_computes_a_quantised_model_as_it_is_written(model, tmp_path, monkeypatch):
    from keyposs_trt.engine import onnxruntime_runner as module

    save_model(quantise(model, ranges_of(model)), tmp_path / "int8.onnx")
    save_model(model, tmp_path / "float.onnx")
    opened = []
    real = module.open_session
    monkeypatch.setattr(module, "open_session", lambda *a, **k: opened.append(k.get("exact", False)) or real(*a, **k))
    with module.OnnxRuntimeRunner(tmp_path / "float.onnx"):
        assert opened == [False]
    with module.OnnxRuntimeRunner(tmp_path / "int8.onnx") as runner:
        assert opened == [False, False, True]
        assert runner.spec.precision == "int8"
        want = session_in_memory((tmp_path / "int8.onnx").read_bytes(), "m", exact=True).run(["landmarks"], {"image": crops()})[0]
        np.testing.assert_array_equal(runner(crops()).landmarks, want)
