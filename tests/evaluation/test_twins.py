"""Twins round where an engine does; ONNX Runtime alone does not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from model_zoo import spot_image, tiny_model

from keyposs_trt.engine.runner import open_runner
from keyposs_trt.evaluation.twins import Workshop
from keyposs_trt.graph import change_decoder, rounded, save_model, to_fp16
from keyposs_trt.graph.contract import INPUT
from keyposs_trt.graph.onnx_package import FLOAT, FLOAT16, element_types
from keyposs_trt.graph.onnxruntime_package import session_in_memory


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def crops():
    noise = np.random.default_rng(0).integers(0, 40, (2, 128, 128, 3)).astype(np.uint8)
    return np.maximum(noise, np.stack([spot_image(128, 32, (15, 16)), spot_image(128, 32, (17, 14))]))


def tensors(model, names, crops, exact=False):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return session_in_memory(model.SerializeToString(), "x", 1, exact).run(names, {INPUT: crops})


@pytest.mark.parametrize("exact", [True, False])
def test_each_layer_is_that_of_float16_arithmetic(path, crops, exact):
    """One layer after the other in NumPy's float16 would do the same; here each layer's input is what the twin itself gives."""
    model = onnx.load(path)
    half, twin = to_fp16(model), rounded(to_fp16(model))
    onnx.checker.check_model(twin, full_check=True)
    types = element_types(half)
    names = [n.output[0] for n in half.graph.node if types.get(n.output[0]) == FLOAT16]
    assert len(names) >= 5
    assert not {FLOAT16} & {t for name, t in element_types(twin).items() if name in names}
    for values in tensors(twin, names, crops, exact):
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, values.astype(np.float16))  # every one is a float16 number
    # Kept as an output, a tensor is rounded by ONNX Runtime too: both agree there to about a step of float16.
    for ours, theirs in zip(tensors(twin, names, crops, exact), tensors(half, names, crops, True), strict=True):
        np.testing.assert_allclose(ours, theirs.astype(np.float32), rtol=2e-3, atol=2e-3)


def test_a_twin_drifts_more_than_onnx_runtime_shows(path, crops, tmp_path):
    workshop = Workshop(tmp_path)
    graphs = {p: workshop.make(path, p) for p in ("fp32", "fp16")}
    assert graphs["fp32"].twin == graphs["fp32"].file == path
    assert workshop.make(path, "fp16") is graphs["fp16"]
    found = []
    for file in (path, graphs["fp16"].file, graphs["fp16"].twin):
        with open_runner(file, "onnxruntime", 1) as runner:
            found.append(runner(crops).landmarks)
    reference, plain, twin = found
    drift = [np.linalg.norm(points - reference, axis=-1).mean() for points in (plain, twin)]
    assert 0 < drift[0] < drift[1] < 0.5


def test_a_float_model_stays_as_it_is(path, crops):
    model = onnx.load(path)
    twin = rounded(model)
    assert [n.op_type for n in twin.graph.node] == [n.op_type for n in model.graph.node]
    assert all(t.data_type != FLOAT16 for t in twin.graph.initializer)


@pytest.mark.parametrize("decoder", ["plugin", "none"])
def test_other_decoders(path, crops, tmp_path, decoder):
    """The plugin's decoder becomes one that runs here; a model without one is decoded outside."""
    file = tmp_path / "other.onnx"
    save_model(change_decoder(onnx.load(path), decoder), file)
    workshop = Workshop(tmp_path)
    for precision, least in (("fp32", 0), ("fp16", 1e-6)):
        with open_runner(workshop.make(file, precision).twin, "onnxruntime", 1) as runner, open_runner(path, "onnxruntime", 1) as own:
            apart = np.abs(runner(crops).landmarks - own(crops).landmarks).max()
        assert least <= apart < 0.5


def test_a_file_in_float16(path, crops, tmp_path):
    file = tmp_path / "half.onnx"
    save_model(to_fp16(onnx.load(path)), file)
    workshop = Workshop(tmp_path)
    assert [workshop.precision_of(p) for p in (path, file)] == ["fp32", "fp16"]
    graph = workshop.make(file, "int8")
    assert graph.file == file
    assert graph.twin != file
    assert element_types(onnx.load(graph.twin))["heatmaps"] == FLOAT
