from __future__ import annotations

import numpy as np
import pytest
from odd_maps import odd_maps

from keyposs_trt.decode import wls

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from keyposs_trt.decode.onnx_fragment import wls_fragment  # noqa: E402

KINDS = {np.float32: 1, np.float16: 10}


def fragment_model(size, points, opset=17, kind=np.float32, **parameters):
    parameters = {"stride": 1.0, "grid": "corner"} | parameters
    fragment = wls_fragment("heatmaps", size=size, **parameters)
    value = onnx.helper.make_tensor_value_info
    outputs = [value(n, 1, ["N", points, *t]) for n, t in (("landmarks", [2]), ("scores", []), ("covariance", [3]))]
    graph = onnx.helper.make_graph(
        fragment.nodes, "decoder", [value("heatmaps", KINDS[kind], ["N", points, size, size])], outputs, fragment.initializers
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, maps, optimise=True):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"heatmaps": maps})


def assert_agree(outputs, decoded, what=""):
    points, scores, covariance = outputs
    np.testing.assert_allclose(points, decoded.points, atol=1e-3, rtol=0, err_msg=what)
    np.testing.assert_allclose(scores, decoded.scores, atol=1e-3, err_msg=what)
    size = np.abs(decoded.covariance).max(-1, keepdims=True)
    assert (np.abs(covariance - decoded.covariance) <= 0.01 * size + 1e-6).all(), what


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("size", [64, 32, 16, 8, 4])
def test_agrees_with_the_oracle_on_odd_maps(size, optimise):
    model = fragment_model(size, 20)
    for kind, maps in odd_maps(size).items():
        maps = maps.reshape(2, 20, size, size)
        assert_agree(run(model, maps, optimise), wls(maps), kind)


@pytest.mark.parametrize(
    "parameters",
    [
        {"radius": 2, "prior": 0.1},
        {"radius": 5, "floor": 0.2},
        {"sigma": 0.8},
        {"sigma": 5.0, "prior": 0.5},
        {"prior": np.inf},
        {"radius": 1},
    ],
)
def test_agrees_with_other_parameters(parameters):
    model = fragment_model(8, 40, **parameters)
    for kind, maps in odd_maps(8, seed=1).items():
        assert_agree(run(model, maps[None]), wls(maps[None], **parameters), kind)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_agrees_on_maps_smaller_than_the_window(size):
    model = fragment_model(size, 40)
    for kind, maps in odd_maps(size).items():
        assert_agree(run(model, maps[None]), wls(maps[None]), kind)


@pytest.mark.parametrize("grid", ["corner", "half_pixel"])
@pytest.mark.parametrize("stride", [4.0, 64.0, 2.5])
def test_gives_crop_pixels(grid, stride):
    maps = odd_maps(8)["blobs"].reshape(4, 10, 8, 8)
    points, scores, covariance = run(fragment_model(8, 10, stride=stride, grid=grid), maps)
    expected = wls(maps).to_crop(stride, grid)
    np.testing.assert_allclose(points, expected.points, atol=1e-3)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(covariance, expected.covariance, atol=1e-4)


def test_float16_maps_are_decoded_in_float32():
    maps = odd_maps(16)["blobs"].astype(np.float16)[None]
    assert_agree(run(fragment_model(16, 40, kind=np.float16), maps), wls(maps))


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_batch_is_free(batch):
    maps = odd_maps(8)["blobs"][:batch, None]
    points, scores, covariance = run(fragment_model(8, 1), maps)
    assert (points.shape, scores.shape, covariance.shape) == ((batch, 1, 2), (batch, 1), (batch, 1, 3))


@pytest.mark.parametrize("opset", [17, 18, 20, 21])
def test_valid_in_later_opsets(opset):
    maps = odd_maps(8)["blobs"][None]
    assert_agree(run(fragment_model(8, 40, opset=opset), maps), wls(maps))


def test_operators_are_few_and_plain():
    """Growth shows here: a new operator is a new risk in every runtime, each node a launch or a microsecond."""
    model = fragment_model(32, 68)
    kinds = {n.op_type for n in model.graph.node}
    assert len(model.graph.node) <= 104
    assert kinds <= {
        "Abs", "Add", "And", "ArgMax", "Cast", "Clip", "Div", "Exp", "Gather", "GatherElements", "Greater", "Less", "Log", "Max", "Min",
        "Mul", "Pad", "ReduceSum", "Reshape", "Split", "Squeeze", "Sub", "Unsqueeze", "Where",
    }  # fmt: skip
    assert model.ByteSize() < 25_000


def test_whole_maps_are_touched_by_six_operators_only():
    """Everything behind the argmax works on the window."""
    model = onnx.shape_inference.infer_shapes(fragment_model(32, 68))
    sizes = {v.name: int(np.prod([d.dim_value or 1 for d in v.type.tensor_type.shape.dim])) for v in model.graph.value_info}
    whole = [n.op_type for n in model.graph.node if any(sizes.get(o, 0) >= 68 * 32 * 32 for o in n.output)]
    assert whole == ["Cast", "Abs", "Less", "Where", "Pad", "Reshape"]


def test_every_name_has_the_prefix():
    fragment = wls_fragment("heatmaps", size=8, stride=4, grid="corner", prefix="decode/")
    assert all(n.name.startswith("decode/") for n in fragment.nodes)
    assert all(i.name.startswith("decode/") for i in fragment.initializers)
    inner = {name for n in fragment.nodes for name in (*n.input, *n.output)} - {"heatmaps", "landmarks", "scores", "covariance"}
    assert all(name.startswith("decode/") for name in inner)
