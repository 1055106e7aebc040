from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_zoo import heatmap_network, spot_image, tiny_spec

onnx = pytest.importorskip("onnx")

from graph_tools import conv_network, run, session  # noqa: E402

from keyposs_trt.errors import BuildError  # noqa: E402
from keyposs_trt.graph import attach_decoder, attach_preprocessing, spec_of_model, store_weights_fp16, to_fp16  # noqa: E402
from keyposs_trt.graph.contract import PLUGIN_NAME  # noqa: E402

FLOAT, FLOAT16 = 1, 10
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
SPEC = tiny_spec(heatmap_size=16, input_size=32, points=5)


def types(model):
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = {v.name: v.type.tensor_type.elem_type for vs in (graph.input, graph.output, graph.value_info) for v in vs}
    return {**values, **{i.name: i.data_type for i in graph.initializer}}


@pytest.fixture
def model():
    return attach_decoder(attach_preprocessing(conv_network()), SPEC)


def test_network_is_float16_the_rest_float32(model):
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    kinds = types(half)
    for node in half.graph.node:
        found = {kinds[o] for o in node.output if kinds.get(o) in (FLOAT, FLOAT16)}
        if node.name.startswith(("preprocess/", "decode/")):
            assert found <= {FLOAT}, node.name
        else:
            assert found <= {FLOAT16}, node.name
    convolutions = [n for n in half.graph.node if n.op_type == "Conv"]
    assert len(convolutions) == 2
    assert all(kinds[i] == FLOAT16 for n in convolutions for i in n.input)
    assert kinds["scales"] == FLOAT  # Resize wants it so


def test_one_cast_in_one_cast_out(model):
    casts = [n.name for n in to_fp16(model).graph.node if n.op_type == "Cast"]
    own = [n.name for n in model.graph.node if n.op_type == "Cast"]
    assert set(casts) - set(own) == {"cast/preprocess/normalised/fp16"}
    assert len(casts) == len(own) + 1


def test_the_plugin_takes_float16_and_gives_float32():
    half = to_fp16(attach_decoder(attach_preprocessing(conv_network()), replace(SPEC, decoder="plugin")))
    onnx.checker.check_model(half, full_check=True)
    kinds = types(half)
    plugin = half.graph.node[-1]
    assert plugin.op_type == PLUGIN_NAME
    assert [kinds[n] for n in plugin.input] == [FLOAT16]
    assert [kinds[n] for n in plugin.output] == [FLOAT] * 3
    assert [n.name for n in half.graph.node if n.op_type == "Cast"] == ["preprocess/float", "cast/preprocess/normalised/fp16"]
    assert spec_of_model(half, "m").decoder == "plugin"


def test_contract_is_unchanged(model):
    half = to_fp16(model)
    assert spec_of_model(half, "m") == spec_of_model(model, "m")
    assert half.graph.input == model.graph.input
    assert half.graph.output == model.graph.output
    session(half)


def test_landmarks_stay_put():
    model = attach_decoder(attach_preprocessing(heatmap_network()), tiny_spec())
    images = np.stack([spot_image(128, 32, cell) for cell in ((16, 16), (12, 20), (18, 9))])
    a, b = run(model, images), run(to_fp16(model), images)
    np.testing.assert_allclose(a["landmarks"], b["landmarks"], atol=0.05)
    np.testing.assert_allclose(a["scores"], b["scores"], atol=0.002)


def test_heatmaps_keep_their_type():
    model = attach_decoder(attach_preprocessing(conv_network()), tiny_spec(heatmap_size=16, input_size=32, points=5, decoder="none"))
    half = to_fp16(model)
    assert half.graph.output[0].type.tensor_type.elem_type == FLOAT
    a, b = run(model, IMAGES)["heatmaps"], run(half, IMAGES)["heatmaps"]
    assert b.dtype == np.float32
    np.testing.assert_allclose(a, b, atol=0.02)
    assert np.abs(a - b).max() > 0


def test_plain_network_first_decoder_afterwards(model):
    late = attach_decoder(attach_preprocessing(to_fp16(conv_network())), SPEC)
    early = to_fp16(model)
    for name, value in run(early, IMAGES).items():
        np.testing.assert_allclose(run(late, IMAGES)[name], value, atol=1e-6)


def test_stored_weights_give_the_same_graph(model):
    assert run(to_fp16(store_weights_fp16(model)), IMAGES)["landmarks"] == pytest.approx(run(to_fp16(model), IMAGES)["landmarks"])


def test_casting_twice_changes_nothing(model):
    once = to_fp16(model)
    np.testing.assert_array_equal(run(to_fp16(once), IMAGES)["landmarks"], run(once, IMAGES)["landmarks"])


def test_input_model_is_left_alone(model):
    before = model.SerializeToString()
    to_fp16(model)
    assert model.SerializeToString() == before


def test_too_large_weight_is_named():
    with pytest.raises(BuildError, match=r"'head\.weight' reaches .*, beyond float16's 65504; keep this model in FP32"):
        to_fp16(conv_network(weight=1e7))


def test_a_tensor_used_as_scale_and_as_data():
    network = conv_network()
    network.graph.node.insert(8, onnx.helper.make_node("Slice", ["scales", "at", "to"], ["one"], "slice"))
    network.graph.initializer.extend(onnx.numpy_helper.from_array(np.array([v]), n) for n, v in (("at", 0), ("to", 1)))
    network.graph.node.insert(9, onnx.helper.make_node("Mul", ["r3", "one"], ["r4"], "scaled"))
    network.graph.node[10].input[0] = "r4"
    half = to_fp16(network)
    value = np.random.default_rng(0).normal(0, 1, (1, 3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(run(half, value)["heatmaps"], run(network, value)["heatmaps"], atol=0.02)


@pytest.mark.parametrize(("op", "remedy"), [("QuantizeLinear", "before Q/DQ nodes are placed"), ("If", "without control flow")])
def test_refuses_what_cannot_be_cast(op, remedy):
    network = conv_network()
    network.graph.node[0].op_type = op
    with pytest.raises(BuildError, match=f"{op} node 'conv1' and cannot be cast to FP16; .*{remedy}"):
        to_fp16(network)


def softmax_network(tail):
    """conv -> softmax -> ``tail``: operators that follow, each a node of its name."""
    h = onnx.helper
    weight = onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    nodes = [h.make_node("Conv", ["x", "w"], ["t0"], "conv"), h.make_node("Softmax", ["t0"], ["t1"], "softmax")]
    for i, op in enumerate(tail, 1):
        inputs = [f"t{i}", "w"] if op == "Conv" else [f"t{i}"]
        nodes.append(h.make_node(op, inputs, [f"t{i + 1}"], f"{op}{i}".lower()))
    value = h.make_tensor_value_info
    graph = h.make_graph(nodes, "g", [value("x", 1, [1, 3, 4, 4])], [value(f"t{len(tail) + 1}", 1, [1, 3, 4, 4])], [weight])
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)])


def test_softmax_over_the_maps_stays_float32_and_one_inside_the_network_does_not():
    half = to_fp16(softmax_network(["Relu", "Neg"]))
    kinds = types(half)
    assert {n.name: kinds[n.output[0]] for n in half.graph.node if n.op_type != "Cast"} == {
        "conv": FLOAT16, "softmax": FLOAT, "relu1": FLOAT, "neg2": FLOAT,
    }  # fmt: skip
    half = to_fp16(softmax_network(["Relu", "Conv"]))
    kinds = types(half)
    assert {kinds[n.output[0]] for n in half.graph.node if n.op_type in ("Softmax", "Relu", "Conv")} == {FLOAT16}
    session(half)
