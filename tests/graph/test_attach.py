from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from model_zoo import heatmap_network, spot_image, template, tiny_model, tiny_spec

onnx = pytest.importorskip("onnx")

from graph_tools import conv_network, run  # noqa: E402

from keyposs_trt.decode import wls  # noqa: E402
from keyposs_trt.decode.multilateration import PRIOR, RADIUS  # noqa: E402
from keyposs_trt.errors import BackendError, ModelError, UsageError  # noqa: E402
from keyposs_trt.graph import (  # noqa: E402
    attach_decoder,
    attach_preprocessing,
    change_decoder,
    detach_decoder,
    read_spec,
    save_model,
    spec_of_model,
    store_weights_fp16,
    to_fp16,
)
from keyposs_trt.graph.contract import PLUGIN_NAME  # noqa: E402
from keyposs_trt.models import resolve  # noqa: E402


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
    assert spec_of_model(model, "m").decoder_parameters == {"radius": 2, "prior": PRIOR}


def test_parameters_reach_the_graph():
    images = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    results = [
        run(attach_decoder(attach_preprocessing(conv_network()), small_spec(decoder_parameters=p)), images)["landmarks"]
        for p in ({}, {"radius": RADIUS, "prior": PRIOR}, {"radius": 2})
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0] - results[2]).max() > 0.01


def test_the_covariance_is_scaled_inside_the_graph():
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    plain = attach_decoder(attach_preprocessing(conv_network()), small_spec())
    scaled = attach_decoder(attach_preprocessing(conv_network()), small_spec(covariance_scale=81.0))
    one, other = run(plain, images), run(scaled, images)
    np.testing.assert_allclose(other["covariance"], 81 * one["covariance"], rtol=1e-5)
    for name in ("landmarks", "scores"):
        np.testing.assert_array_equal(other[name], one[name])
    again = change_decoder(change_decoder(scaled, "plugin"), "wls")
    np.testing.assert_array_equal(run(again, images)["covariance"], other["covariance"])
    assert spec_of_model(again, "m").covariance_scale == 81
    plugin = change_decoder(scaled, "plugin")
    assert [node.op_type for node in plugin.graph.node[-2:]] == [PLUGIN_NAME, "Mul"]


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


IMAGES = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


def small_model(**changes):
    return attach_decoder(attach_preprocessing(conv_network()), small_spec(**changes))


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def test_the_plugin_is_one_node_with_the_fields_it_wants(tmp_path):
    model = small_model(decoder="plugin", grid="corner", decoder_parameters={"radius": 3})
    *_, node = model.graph.node
    assert [n.name for n in model.graph.node if n.name.startswith("decode/")] == [node.name]
    assert (node.op_type, node.domain) == ("KeyPosSMultilateration", "trt.plugins")
    assert (list(node.input), list(node.output)) == (["heatmaps"], ["landmarks", "scores", "covariance"])
    assert attributes(node) == {
        "plugin_version": b"1", "plugin_namespace": b"", "sigma": 2.0, "radius": 3, "prior": pytest.approx(PRIOR), "stride": 2.0,
        "grid": b"corner",
    }  # fmt: skip
    kinds = {a.name: onnx.AttributeProto.AttributeType.Name(a.type) for a in node.attribute}
    assert {name for name, kind in kinds.items() if kind == "FLOAT"} == {"sigma", "prior", "stride"}
    assert {name for name, kind in kinds.items() if kind == "INT"} == {"radius"}
    assert {o.domain: o.version for o in model.opset_import} == {"": 17, "trt.plugins": 1}
    save_model(model, tmp_path / "m.onnx")  # which runs ONNX's checker
    spec = spec_of_model(model, "m")
    assert (spec.decoder, spec.decoder_parameters) == ("plugin", {"radius": 3, "prior": PRIOR})
    assert model.graph.output == small_model().graph.output


@pytest.mark.parametrize("decoder", ["wls", "plugin"])
@pytest.mark.parametrize("change", [None, store_weights_fp16, to_fp16])
def test_detached_model_is_as_if_it_never_had_a_decoder(decoder, change):
    network = attach_preprocessing(conv_network(channels=256))
    whole, plain = (attach_decoder(network, small_spec(decoder=d)) for d in (decoder, "none"))
    if change is not None:
        whole, plain = change(whole), change(plain)
    network = detach_decoder(whole)
    onnx.checker.check_model(network, full_check=True)
    expected = spec_of_model(plain, "m")
    assert spec_of_model(network, "m") == replace(expected, decoder_parameters={"radius": RADIUS, "prior": PRIOR})
    assert sorted(i.name for i in network.graph.initializer) == sorted(i.name for i in plain.graph.initializer)
    assert {o.domain for o in network.opset_import} == {""}
    found, maps = run(network, IMAGES)["heatmaps"], run(plain, IMAGES)["heatmaps"]
    # In float16, ONNX Runtime leaves out roundings between casts as it sees fit.
    np.testing.assert_allclose(found.astype(np.float32), maps, atol=2e-3 if change is to_fp16 else 0)


def test_detaching_twice_changes_nothing():
    once = detach_decoder(small_model())
    assert detach_decoder(once) == once


def test_decoder_of_an_earlier_version_can_be_changed(tmp_path):
    """Its file holds a parameter that this version's solver does not have; it still runs, and can be given this one's decoder."""
    old = small_model()
    keys = {p.key: p.value for p in old.metadata_props}
    onnx.helper.set_model_props(old, keys | {"keyposs.decoder_parameters": '{"floor": 0.05, "prior": 0.02, "radius": 3}', "author": "x"})
    assert spec_of_model(old, "m").decoder_parameters == {}
    save_model(old, tmp_path / "old.onnx")
    assert read_spec(tmp_path / "old.onnx").decoder == "wls"
    new = change_decoder(old, "wls")
    assert spec_of_model(new, "m").decoder_parameters == {"radius": RADIUS, "prior": PRIOR}
    assert {p.key: p.value for p in new.metadata_props}["author"] == "x"
    for name, value in run(small_model(), IMAGES).items():
        np.testing.assert_array_equal(run(new, IMAGES)[name], value)


def test_change_to_the_plugin_and_back():
    first = small_model(decoder_parameters={"radius": 2, "prior": 0.1})
    plugin = change_decoder(first, "plugin")
    assert attributes(plugin.graph.node[-1])["radius"] == 2
    back = change_decoder(plugin, "wls", {"prior": 0.3})
    assert spec_of_model(back, "m").decoder_parameters == {"radius": 2, "prior": 0.3}
    expected = small_model(decoder_parameters={"radius": 2, "prior": 0.3})
    for name, value in run(expected, IMAGES).items():
        np.testing.assert_array_equal(run(back, IMAGES)[name], value)
    assert spec_of_model(change_decoder(back, "none"), "m").outputs == ("heatmaps",)


@pytest.mark.parametrize(
    ("decoder", "parameters", "words"),
    [
        ("argmax", {}, "no decoder 'argmax'; choose one of none, wls, plugin"),
        ("wls", {"floor": 0.1}, "no parameter 'floor'; it has prior and radius"),
        ("plugin", {"radius": 0}, "radius must be a whole number in 1"),
        ("none", {"prior": -1}, "prior must be 0 or more"),
    ],
)
def test_changes_that_make_no_sense(decoder, parameters, words):
    with pytest.raises(UsageError, match=words):
        change_decoder(small_model(), decoder, parameters)


def test_what_cannot_be_detached():
    with pytest.raises(ModelError, match="without keyposs metadata"):
        detach_decoder(conv_network())
    odd = small_model()
    for node in odd.graph.node:
        for names in (node.input, node.output):
            names[:] = ["maps" if n == "heatmaps" else n for n in names]
    with pytest.raises(ModelError, match="no tensor 'heatmaps' in front of its decoder; export the model again"):
        detach_decoder(odd)


def test_without_graphsurgeon_the_remedy_is_named(monkeypatch):
    model = small_model()
    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)
    with pytest.raises(BackendError, match=r"install it with: pip install onnx-graphsurgeon$"):
        detach_decoder(model)


def test_shipped_model_can_be_given_the_plugin_and_back():
    path = resolve(None)
    shipped = onnx.load(path)
    spec = spec_of_model(shipped, path)
    again = change_decoder(change_decoder(shipped, "plugin"), "wls")
    assert replace(spec_of_model(again, path), decoder_parameters={}) == replace(spec, decoder_parameters={})
    crops = np.random.default_rng(0).integers(0, 256, (1, spec.input_size, spec.input_size, 3)).astype(np.uint8)
    maps = run(detach_decoder(shipped), crops)["heatmaps"]
    expected = wls(maps, sigma=spec.sigma).to_crop(spec.stride, spec.grid)
    np.testing.assert_allclose(run(again, crops)["landmarks"], expected.points, atol=0.01)
