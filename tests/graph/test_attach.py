from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_zoo import heatmap_network, spot_image, template, tiny_model, tiny_spec

onnx = pytest.importorskip("onnx")

from graph_tools import conv_network, run  # noqa: E402

from keyposs_trt.decode import wls  # noqa: E402
from keyposs_trt.errors import ModelError  # noqa: E402
from keyposs_trt.graph import attach_decoder, attach_preprocessing, read_spec, spec_of_model  # noqa: E402


def small_spec(**changes):
    return replace(tiny_spec(heatmap_size=16, input_size=32, points=5), **changes)


@pytest.mark.parametrize(("size", "crop"), [(64, 256), (32, 128), (16, 256), (8, 256), (4, 256)])
@pytest.mark.parametrize("grid", ["half_pixel", "corner"])
def test_whole_model_finds_the_spot(tmp_path, size, crop, grid):
    path = tiny_model(tmp_path / "m.onnx", heatmap_size=size, input_size=crop, grid=grid)
    cell = (size // 2, size // 2 - 1)
    out = run(onnx.load(path), spot_image(crop, size, cell)[None])
    expected = template(68, size) + cell
    stride = crop / size
    expected = (expected + 0.5) * stride - 0.5 if grid == "half_pixel" else expected * stride
    inside = ((expected > 0) & (expected < crop - stride)).all(-1)
    assert inside.sum() > 20
    np.testing.assert_allclose(out["landmarks"][0][inside], expected[inside], atol=0.05 * stride)
    np.testing.assert_allclose(out["scores"][0][inside], 0.9, atol=0.05)


def test_equals_the_oracle_on_the_networks_own_maps():
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3)).astype(np.uint8)
    network = attach_preprocessing(heatmap_network())
    spec = tiny_spec()
    maps = run(attach_decoder(network, replace(spec, decoder="none")), images)["heatmaps"]
    out = run(attach_decoder(network, spec), images)
    expected = wls(maps).to_crop(spec.stride, spec.grid)
    np.testing.assert_allclose(out["landmarks"], expected.points, atol=1e-3)
    np.testing.assert_allclose(out["scores"], expected.scores, atol=1e-4)
    np.testing.assert_allclose(out["covariance"], expected.covariance, rtol=1e-2, atol=1e-4)


def test_preprocessing_before_or_after():
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    first = attach_decoder(attach_preprocessing(conv_network()), small_spec())
    second = attach_preprocessing(attach_decoder(conv_network(), small_spec()))
    for name, value in run(first, images).items():
        np.testing.assert_array_equal(value, run(second, images)[name])
    assert spec_of_model(second, "m") == spec_of_model(first, "m")


def test_metadata_tell_the_parameters_in_use():
    model = attach_decoder(attach_preprocessing(conv_network()), small_spec(decoder_parameters={"radius": 2}))
    assert spec_of_model(model, "m").decoder_parameters == {"radius": 2, "prior": 0.02, "floor": 0.05}


def test_parameters_reach_the_graph():
    images = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    results = [
        run(attach_decoder(attach_preprocessing(conv_network()), small_spec(decoder_parameters=p)), images)["landmarks"]
        for p in ({}, {"radius": 3, "prior": 0.02, "floor": 0.05}, {"radius": 2})
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0] - results[2]).max() > 0.01


def test_input_model_is_left_alone_and_notes_are_dropped():
    network = conv_network()
    before = network.SerializeToString()
    model = attach_decoder(network, small_spec(decoder="none"))
    assert network.SerializeToString() == before
    assert b"/home/someone" in before
    assert b"/home/someone" not in model.SerializeToString()


def test_other_metadata_stay():
    network = conv_network()
    onnx.helper.set_model_props(network, {"author": "x"})
    model = attach_decoder(network, small_spec())
    assert {p.key: p.value for p in model.metadata_props}["author"] == "x"


def test_inner_tensors_may_bear_the_outputs_names():
    network = conv_network()
    for node in network.graph.node:
        node.input[:] = ["scores" if n == "r3" else n for n in node.input]
        node.output[:] = ["scores" if n == "r3" else n for n in node.output]
    images = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    out = run(attach_preprocessing(attach_decoder(network, small_spec())), images)
    assert out["scores"].shape == (1, 5)


def test_none_keeps_the_heatmaps(tmp_path):
    path = tiny_model(tmp_path / "m.onnx", decoder="none")
    assert read_spec(path).outputs == ("heatmaps",)
    out = run(onnx.load(path), spot_image(128, 32, (16, 16))[None])
    assert out["heatmaps"].shape == (1, 68, 32, 32)


def renamed(model, name):
    model.graph.output[0].name = name
    model.graph.node[-1].output[0] = name
    return model


@pytest.mark.parametrize(
    ("network", "spec", "message"),
    [
        (lambda: renamed(conv_network(), "maps"), small_spec(), "one output named 'heatmaps'"),
        (lambda: conv_network(opset=13), small_spec(), "opset 13; export it with opset 17 or later"),
        (conv_network, small_spec(points=6), r"\[1, 5, 16, 16\], its spec says \[N, 6, 16, 16\]"),
        (conv_network, small_spec(heatmap_size=8), "correct the spec or the export"),
        (conv_network, small_spec(input_size=64, heatmap_size=16), "its spec says 64 pixels"),
        (lambda: attach_decoder(conv_network(), small_spec()), small_spec(), "has a decoder already"),
    ],
)
def test_refuses_other_graphs(network, spec, message):
    with pytest.raises(ModelError, match=message):
        attach_decoder(network(), spec)
