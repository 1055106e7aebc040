from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from graph_tools import conv_network, run  # noqa: E402

from keyposs_trt.errors import ModelError, UsageError  # noqa: E402
from keyposs_trt.graph import attach_preprocessing  # noqa: E402

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def floats(images, mean=MEAN, std=STD):
    return ((images.astype(np.float64) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize("name", ["image", "input"])
@pytest.mark.parametrize("normalisation", [(), ((10.0, 20.0, 30.0), (100.0, 200.0, 50.0))])
def test_same_as_normalising_outside(name, normalisation):
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    network = conv_network(name)
    expected = run(network, floats(images, *normalisation))["heatmaps"]
    model = attach_preprocessing(network, *normalisation)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, images)["heatmaps"], expected, atol=1e-4)


def test_a_network_trained_on_bgr_gets_bgr():
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    mean, std = (10.0, 20.0, 30.0), (100.0, 200.0, 50.0)  # of B, G, R
    expected = run(conv_network(), floats(images[..., ::-1], mean, std))["heatmaps"]
    model = attach_preprocessing(conv_network(), mean, std, "bgr")
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, images)["heatmaps"], expected, atol=1e-4)
    assert np.abs(run(attach_preprocessing(conv_network(), mean, std), images)["heatmaps"] - expected).max() > 0.1


def test_batch_becomes_free():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    model = attach_preprocessing(conv_network())
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 32, 32, 3]
    assert run(model, images)["heatmaps"].shape == (3, 5, 16, 16)


def test_every_name_has_the_prefix():
    model = attach_preprocessing(conv_network("input"))
    added = [n for n in model.graph.node if n.name not in {m.name for m in conv_network().graph.node}]
    assert [n.op_type for n in added] == ["Cast", "Transpose", "Mul", "Add"]
    assert all(n.name.startswith("preprocess/") for n in added)


def test_float16_network_gets_float16():
    network = conv_network()
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.elem_type = 10
    for weight in network.graph.initializer:
        if weight.name != "scales":
            with np.errstate(over="ignore"):
                half = onnx.numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(onnx.numpy_helper.from_array(half, weight.name))
    for node in network.graph.node:
        if node.name == "zero":
            node.CopyFrom(onnx.helper.make_node("Constant", [], ["zero"], "zero", value=onnx.numpy_helper.from_array(np.float16(0))))
        elif node.name == "zeros":
            node.attribute.append(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(np.zeros(1, np.float16))))
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    model = attach_preprocessing(network)
    onnx.checker.check_model(model, full_check=True)
    expected = run(conv_network(), floats(images))["heatmaps"]
    np.testing.assert_allclose(run(model, images)["heatmaps"], expected, atol=0.02)


def test_twice_is_refused():
    with pytest.raises(ModelError, match=r"one float input \[N, 3, S, S\]; this graph has image \[N, 32, 32, 3\]"):
        attach_preprocessing(attach_preprocessing(conv_network()))


@pytest.mark.parametrize("shape", [[1, 1, 32, 32], [1, 3, 32, 16], ["N", 3, "H", "W"], [1, 3, 32]])
def test_other_inputs_are_refused(shape):
    network = conv_network()
    network.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("image", 1, shape))
    with pytest.raises(ModelError, match="export it so"):
        attach_preprocessing(network)


@pytest.mark.parametrize(
    ("mean", "std"), [((0, 0), (1, 1, 1)), ((0, 0, 0), (1, 0, 1)), ((0, np.nan, 0), (1, 1, 1)), ((0, 0, 0), (1, np.inf, 1))]
)
def test_senseless_normalisation(mean, std):
    with pytest.raises(UsageError, match="three means and three positive standard deviations"):
        attach_preprocessing(conv_network(), mean, std)


def test_unknown_channels():
    with pytest.raises(UsageError, match="must be one of rgb, bgr, not 'gbr'"):
        attach_preprocessing(conv_network(), channels="gbr")
