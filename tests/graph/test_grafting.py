"""Networks of other tools, exported as they do it: odd names, an old opset, a fixed batch."""

from __future__ import annotations

import io

import numpy as np
import pytest
from model_zoo import heatmap_network, spot_image, template

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_graphsurgeon")

from graph_tools import foreign_network, run  # noqa: E402

from keyposs_trt.decode import wls  # noqa: E402
from keyposs_trt.decode.decoded import to_crop  # noqa: E402
from keyposs_trt.errors import ModelError, UsageError  # noqa: E402
from keyposs_trt.graph import expand_weights, graft, save_model, spec_of_model, store_weights_fp16, to_fp16  # noqa: E402
from keyposs_trt.graph.contract import PLUGIN_NAME  # noqa: E402
from keyposs_trt.graph.preprocessing import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from keyposs_trt.landmarker import Landmarker  # noqa: E402

IMAGES = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)


def floats(images, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    return ((images.astype(np.float64) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def maps_of(model, values):
    """The original's heatmaps, one image at a time."""
    return np.concatenate([run(model, v[None])["output"] for v in values]).astype(np.float32)


def assert_decodes(model, maps, images, grid="corner", sigma=2.0, stride=4.0, **parameters):
    """The grafted model against the NumPy decoder on the original's maps."""
    decoded = wls(maps, sigma=sigma, **parameters)
    out = run(model, images)
    np.testing.assert_allclose(out["landmarks"], to_crop(decoded.points, stride, grid), atol=0.02)
    np.testing.assert_allclose(out["scores"], decoded.scores, atol=1e-3)
    np.testing.assert_allclose(out["covariance"], decoded.covariance * stride**2, rtol=0.02, atol=1e-2)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.filterwarnings("ignore")
def test_export_of_pytorch_runs_in_the_landmarker(opset, tmp_path):
    torch = pytest.importorskip("torch")

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 16, 7, 4, 3)
            self.norm = torch.nn.BatchNorm2d(16)
            self.head = torch.nn.Conv2d(16, 98, 1)

        def forward(self, image):
            x = torch.nn.functional.avg_pool2d(torch.relu(self.norm(self.stem(image))), 2)
            x = torch.nn.functional.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False)
            return self.head(x.reshape(x.shape[0], 16, 256).reshape(x.shape[0], 16, 16, 16))

    torch.manual_seed(0)
    buffer = io.BytesIO()
    image = torch.zeros(1, 3, 64, 64)
    torch.onnx.export(Network().eval(), (image,), buffer, input_names=["img:0"], output_names=["output"], opset_version=opset, dynamo=False)
    network = onnx.load_from_string(buffer.getvalue())
    assert [d.dim_value for d in network.graph.output[0].type.tensor_type.shape.dim] == [1, 98, 16, 16]
    model = graft(network, name="tiny-wflw", sigma=2, grid="corner")
    save_model(model, tmp_path / "m.onnx")
    assert_decodes(model, maps_of(network, floats(IMAGES)), IMAGES)
    with Landmarker.load(tmp_path / "m.onnx", detector=None) as landmarker:
        (face,) = landmarker(np.full((80, 90, 3), 99, np.uint8), [[10, 10, 70, 70]])
        assert (face.points.shape, landmarker.scheme.name) == ((98, 2), "wflw")


@pytest.mark.parametrize("batch", [1, 4, "N"])
@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_any_opset_and_batch(opset, batch):
    network = foreign_network(opset=opset, batch=batch)
    before = network.SerializeToString()
    model = graft(network, name="f", sigma=2, grid="half_pixel", crop_scale=1.4, training_data="noise", licence="MIT")
    assert network.SerializeToString() == before
    onnx.checker.check_model(model, full_check=True)
    assert_decodes(model, maps_of(foreign_network(batch="N"), floats(IMAGES)), IMAGES, "half_pixel")
    spec = spec_of_model(model, "f")
    assert (spec.scheme, spec.points, spec.input_size, spec.heatmap_size, spec.sigma, spec.grid) == ("wflw", 98, 64, 16, 2, "half_pixel")
    assert (spec.crop_scale, spec.decoder, spec.training_data, spec.licence) == (1.4, "wls", "noise", "MIT")
    assert {p.key: p.value for p in model.metadata_props}["author"] == "somebody"


def test_names_that_collide_are_changed():
    model = graft(foreign_network(), name="f", sigma=2, grid="corner")
    network = [n for n in model.graph.node if n.op_type in ("Conv", "Relu")]
    assert [n.name for n in network] == ["network/decode/conv", "network/preprocess/relu", ""]
    assert [list(n.output) for n in network] == [["network/scores"], ["network/image"], ["heatmaps"]]
    assert {"network/decode/w", "network/heatmaps"} <= {i.name for i in model.graph.initializer}
    stored = store_weights_fp16(model)  # tells the network from the decoder by these names
    assert "expand/network/heatmaps" in {i.name for i in stored.graph.initializer}
    casts = [n.name for n in to_fp16(model).graph.node if n.op_type == "Cast" and n.name.startswith("cast/")]
    assert casts == ["cast/data/fp16"]
    np.testing.assert_array_equal(run(expand_weights(to_fp16(model)), IMAGES)["scores"], run(to_fp16(model), IMAGES)["scores"])


def test_float16_network():
    network = foreign_network(half=True)
    model = graft(network, name="f", sigma=2, grid="corner")
    onnx.checker.check_model(model, full_check=True)
    maps = np.concatenate([run(network, v[None])["output"] for v in floats(IMAGES).astype(np.float16)])
    found = run(graft(network, name="f", sigma=2, grid="corner", decoder="none"), IMAGES)["heatmaps"]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(np.float32), maps.astype(np.float32), atol=0.05)


@pytest.mark.parametrize(
    ("normalise", "channels", "mean", "std"),
    [
        ("imagenet", "bgr", IMAGENET_MEAN[::-1], IMAGENET_STD[::-1]),
        ("unit", "rgb", (0, 0, 0), (255, 255, 255)),
        ("none", "bgr", (0, 0, 0), (1, 1, 1)),
        (((100, 110, 120), (50, 60, 70)), "bgr", (100, 110, 120), (50, 60, 70)),
    ],
)
def test_normalisation(normalise, channels, mean, std):
    network = foreign_network()
    model = graft(network, name="f", sigma=2, grid="corner", normalise=normalise, channels=channels, decoder="none")
    expected = maps_of(network, floats(IMAGES[..., ::-1] if channels == "bgr" else IMAGES, mean, std))
    np.testing.assert_allclose(run(model, IMAGES)["heatmaps"], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_parameters_and_plugin():
    network = foreign_network()
    model = graft(network, name="f", sigma=1.5, grid="corner", parameters={"radius": 3, "prior": 0.1})
    assert_decodes(model, maps_of(network, floats(IMAGES)), IMAGES, sigma=1.5, radius=3, prior=0.1)
    plugin = graft(network, name="f", sigma=1.5, grid="corner", decoder="plugin", parameters={"radius": 3})
    onnx.checker.check_model(plugin, full_check=True)
    assert plugin.graph.node[-1].op_type == PLUGIN_NAME
    assert spec_of_model(plugin, "f").decoder_parameters["radius"] == 3


@pytest.mark.parametrize("grid", ["corner", "half_pixel"])
def test_landmarks_lie_where_the_network_drew_them(grid):
    """A white spot at a known place, through somebody else's network that draws a Gaussian at a known distance for each landmark."""
    network = heatmap_network(points=98)
    for node in network.graph.node:
        node.output[:] = ["output" if n == "heatmaps" else n for n in node.output]
    network.graph.output[0].name = "output"
    out = run(graft(network, name="f", sigma=2, grid=grid), spot_image(128, 32, (16, 15))[None])
    expected = (template(98, 32) + np.array([16, 15])) * 4 + (1.5 if grid == "half_pixel" else 0)
    inside = ((expected > 16) & (expected < 112)).all(-1)
    assert inside.sum() > 40
    np.testing.assert_allclose(out["landmarks"][0][inside], expected[inside], atol=0.25)


def test_inner_tensor_as_heatmaps():
    network = foreign_network()
    model = graft(network, name="f", sigma=2, grid="corner", heatmaps="output", image="data")
    assert [o.name for o in model.graph.output] == ["landmarks", "scores", "covariance"]
    del network.graph.output[0]
    np.testing.assert_array_equal(
        run(graft(network, name="f", sigma=2, grid="corner", heatmaps="output"), IMAGES)["scores"], run(model, IMAGES)["scores"]
    )


def test_a_batch_that_cannot_be_freed_is_refused():
    network = foreign_network()
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 8, 16, 16), np.float32), "ones"))
    network.graph.node[4].input[0] = "first"
    start, end, axis = (onnx.numpy_helper.from_array(np.array([v]), n) for n, v in (("start", 0), ("end", 1), ("axis", 0)))
    network.graph.initializer.extend([start, end, axis])
    network.graph.node.insert(4, onnx.helper.make_node("Slice", ["square", "start", "end", "axis"], ["first"], "first"))
    with pytest.raises(ModelError, match=r"'f' gives other heatmaps as part of a batch: .*export it with a free batch \(dynamic_axes="):
        graft(network, name="f", sigma=2, grid="corner")


def test_a_conversion_that_changes_the_maps_is_refused(monkeypatch):
    def broken(model, name):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.opset_import[0].version = 17
        changed.graph.node[1].op_type = "Neg"
        return changed

    monkeypatch.setattr("keyposs_trt.graph.grafting.upgraded", broken)
    with pytest.raises(ModelError, match="gives other heatmaps when brought to opset 17"):
        graft(foreign_network(), name="f", sigma=2, grid="corner")


@pytest.mark.parametrize(
    ("points", "arguments", "words"),
    [
        (98, {"scheme": "300w"}, "'f' has 98 heatmaps, and the scheme '300w' has 68 points; name another one"),
        (98, {"scheme": "w300"}, "no landmark scheme 'w300'"),
        (7, {}, r"Name the landmark scheme of 'f', which has 7 heatmaps; known are 300w \(68\), .*wflw \(98\)"),
        (98, {"sigma": 0.1}, "sigma must be in"),
        (98, {"grid": "centre"}, "grid must be one of corner, half_pixel, not 'centre'"),
        (98, {"crop_scale": 0}, "crop scale must be positive, not 0"),
        (98, {"decoder": "onnx"}, "no decoder 'onnx'"),
        (98, {"parameters": {"floor": 0.1}}, "no parameter 'floor'"),
        (98, {"normalise": "caffe"}, "no normalisation 'caffe'; choose one of imagenet, unit, none"),
        (98, {"normalise": ((0, 0), (1, 1))}, "three means"),
        (98, {"channels": "grey"}, "one of rgb, bgr"),
        (98, {"heatmaps": "maps"}, "no tensor 'maps'"),
        (98, {"image": "input"}, "no input 'input'"),
        (98, {"input_size": 32}, "not 32"),
    ],
)
def test_arguments_that_make_no_sense(points, arguments, words):
    with pytest.raises(UsageError, match=words):
        graft(foreign_network(points=points), **{"name": "f", "sigma": 2, "grid": "corner", **arguments})
