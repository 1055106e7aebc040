from __future__ import annotations

import numpy as np
import pytest
from odd_maps import gaussians, odd_maps

from keyposs_trt.decode import wls

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from keyposs_trt.decode.onnx_fragment import wls_fragment  # noqa: E402

KINDS = {np.float32: 1, np.float16: 10}


def fragment_model(size, points, opset=17, kind=np.float32, **parameters):
    parameters = {"stride": 1.0, "grid": "corner"} | parameters
    fragment = wls_fragment("heatmaps", size=size, opset=opset, **parameters)
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


BROKEN = {"nan and inf", "sparse", "all nan", "all inf", "all -inf"}
# Without a clear peak the fit magnifies rounding: a map or two of those may differ.
VAGUE = {"random", "uniform", "ties", "lines", "one pixel", "sharp"}


def assert_agree(outputs, decoded, kind=""):
    points, scores, covariance = outputs
    for values in outputs:
        assert np.isfinite(values).all(), kind
    if kind in BROKEN:
        return
    size = np.abs(decoded.covariance).max(-1)
    differences = [
        np.abs(points - decoded.points).max(-1) / 1e-3,
        np.abs(scores - decoded.scores) / 1e-3,
        np.abs(covariance - decoded.covariance).max(-1) / (0.01 * size + 1e-4),
    ]
    for difference in differences:
        if kind in VAGUE and points.shape[1] > 1:
            assert np.mean(difference <= 1) >= 0.9, kind
        else:
            assert difference.max() <= 1, kind


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("size", [64, 32, 16, 8, 4])
def test_agrees_with_the_oracle_on_odd_maps(size, optimise):
    model = fragment_model(size, 20)
    for kind, maps in odd_maps(size).items():
        maps = maps.reshape(2, 20, size, size)
        assert_agree(run(model, maps, optimise), wls(maps), kind)


@pytest.mark.parametrize(
    "parameters",
    [{"radius": 2, "prior": 0.1}, {"radius": 3}, {"sigma": 0.8}, {"sigma": 5.0, "prior": 0.5}, {"prior": np.inf}, {"radius": 1}],
)
def test_agrees_with_other_parameters(parameters):
    model = fragment_model(8, 40, **parameters)
    for kind, maps in odd_maps(8, seed=1).items():
        assert_agree(run(model, maps[None]), wls(maps[None], **parameters), kind)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_agrees_on_maps_smaller_than_the_window(size):
    model = fragment_model(size, 40)
    for kind, maps in odd_maps(size).items():
        assert_agree(run(model, maps[None]), wls(maps[None]), kind)


@pytest.mark.parametrize("size", [64, 32, 16, 8, 4])
def test_agrees_on_thousands_of_blobs(size):
    rng = np.random.default_rng(size)
    points, sigma = rng.uniform(-0.5, size - 0.5, (2000, 2)), rng.uniform(1.5, 3, 2000)
    maps = rng.uniform(0.2, 1, (2000, 1, 1)) * gaussians(points, size, sigma) + rng.normal(0, 0.02, (2000, size, size))
    maps = maps.astype(np.float32).reshape(10, 200, size, size)
    assert_agree(run(fragment_model(size, 200), maps), wls(maps))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [32, 4])
def test_a_map_that_holds_no_number_gives_a_place_on_it_with_score_0(value, size):
    maps = np.full((1, 3, size, size), value, np.float32)
    points, scores, covariance = run(fragment_model(size, 3), maps)
    assert (scores == 0).all()
    assert ((points >= 0) & (points < size)).all()
    assert (covariance == [9, 0, 9]).all()


def test_a_nan_in_the_window_gives_the_argmax():
    maps = gaussians(np.array([[9.3, 7.6]]), 32).astype(np.float32)[None]
    maps[0, 0, 10, 11] = np.nan
    points, scores, _ = run(fragment_model(32, 1), maps)
    np.testing.assert_array_equal(points[0, 0], [9, 8])
    assert scores[0, 0] == maps[0, 0, 8, 9]


@pytest.mark.parametrize("lowest", [-1e3, -1e19])
@pytest.mark.parametrize("size", [4, 16])
def test_the_cell_read_for_those_beyond_the_border_has_no_say(lowest, size):
    points = np.random.default_rng(0).uniform(-0.4, 1.4, (40, 2))
    maps = gaussians(points, size).astype(np.float32)[None]
    maps[..., -1, -1] = lowest
    assert_agree(run(fragment_model(size, 40), maps), wls(maps))


@pytest.mark.parametrize("kind", ["zero", "negative", "negative flat", "all nan", "all inf"])
def test_an_empty_map_scores_0_also_where_extrema_lose_a_nan(kind):
    """As fmin and fmax do, on which a runtime may build Min, Max and Clip."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Min(OpRun):
        def _run(self, a, b):  # pyright: ignore[reportIncompatibleMethodOverride]
            return (np.fmin(a, b).astype(a.dtype),)

    class Max(OpRun):
        def _run(self, a, b):  # pyright: ignore[reportIncompatibleMethodOverride]
            return (np.fmax(a, b),)

    class Clip(OpRun):
        def _run(self, a, low, high):  # pyright: ignore[reportIncompatibleMethodOverride]
            return (np.fmin(np.fmax(a, low), high),)

    class GatherElements(OpRun):  # the reference's own takes 64 maps at most
        def _run(self, data, indices, axis=None):  # pyright: ignore[reportIncompatibleMethodOverride]
            return (np.take_along_axis(data, indices.astype(np.int64), axis),)

    maps = odd_maps(8)[kind][None]
    with np.errstate(all="ignore"):
        evaluator = ReferenceEvaluator(fragment_model(8, 40), new_ops=[Min, Max, Clip, GatherElements])
        points, scores, covariance = evaluator.run(None, {"heatmaps": maps})
    assert (scores == 0).all()
    assert ((points >= 0) & (points < 8)).all()
    assert (covariance == [9, 0, 9]).all()


def test_products_rounded_to_tf32_hardly_move_a_landmark():
    """TensorRT may round the inputs of MatMul to 10 bits where its user lets it."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    def rounded(x):
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        return ((bits + 0x1000) & 0xFFFFE000).view(np.float32)

    class MatMul(OpRun):
        def _run(self, a, b):  # pyright: ignore[reportIncompatibleMethodOverride]
            return (np.matmul(rounded(a), rounded(b)),)

    class GatherElements(OpRun):  # the reference's own takes 64 maps at most
        def _run(self, data, indices, axis=None):  # pyright: ignore[reportIncompatibleMethodOverride]
            return (np.take_along_axis(data, indices.astype(np.int64), axis),)

    rng = np.random.default_rng(0)
    for size in (32, 8):
        points, sigma = rng.uniform(0, size - 1, (300, 2)), rng.uniform(1.6, 2.8, 300)
        maps = (0.8 * gaussians(points, size, sigma) + rng.normal(0, 0.02, (300, size, size))).astype(np.float32)[None]
        found = ReferenceEvaluator(fragment_model(size, 300), new_ops=[MatMul, GatherElements]).run(None, {"heatmaps": maps})
        moved = np.abs(found[0] - wls(maps).points)
        assert np.median(moved) < 0.003
        assert moved.max() < 0.1
        assert moved.max() > 1e-4  # or nothing was rounded


@pytest.mark.parametrize("grid", ["corner", "half_pixel"])
@pytest.mark.parametrize("stride", [4.0, 64.0, 2.5])
def test_gives_crop_pixels(grid, stride):
    maps = odd_maps(8)["blobs"].reshape(4, 10, 8, 8)
    points, scores, covariance = run(fragment_model(8, 10, stride=stride, grid=grid), maps)
    expected = wls(maps).to_crop(stride, grid)
    np.testing.assert_allclose(points, expected.points, atol=1e-3 * stride)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(covariance, expected.covariance, atol=1e-4 * stride**2)


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
    assert len(model.graph.node) <= 150
    assert len(fragment_model(8, 68).graph.node) <= 142
    assert kinds <= {
        "Abs", "Add", "ArgMax", "Cast", "Clip", "Concat", "Div", "Exp", "Gather", "GatherElements", "HardSigmoid", "Less", "Log", "MatMul",
        "Max", "Min", "Mul", "ReduceMax", "Reshape", "Slice", "Split", "Squeeze", "Sub", "Transpose", "Where",
    }  # fmt: skip
    assert model.ByteSize() < 180_000


def test_whole_maps_are_read_once():
    """Everything behind the maxima of the rows works on a row or on the window."""
    model = onnx.shape_inference.infer_shapes(fragment_model(32, 68))
    sizes = {v.name: int(np.prod([d.dim_value or 1 for d in v.type.tensor_type.shape.dim])) for v in model.graph.value_info}
    whole = [n.op_type for n in model.graph.node if any(sizes.get(o, 0) >= 68 * 32 * 32 for o in n.output)]
    assert whole == ["Cast", "Reshape"]  # neither moves a float32 map


def test_every_name_has_the_prefix():
    fragment = wls_fragment("heatmaps", size=8, stride=4, grid="corner", prefix="decode/")
    assert all(n.name.startswith("decode/") for n in fragment.nodes)
    assert all(i.name.startswith("decode/") for i in fragment.initializers)
    inner = {name for n in fragment.nodes for name in (*n.input, *n.output)} - {"heatmaps", "landmarks", "scores", "covariance"}
    assert all(name.startswith("decode/") for name in inner)
