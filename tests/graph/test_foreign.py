from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from graph_tools import foreign_network, run  # noqa: E402

from keyposs_trt.errors import ModelError, UsageError  # noqa: E402
from keyposs_trt.graph.foreign import ForeignNetwork, upgraded  # noqa: E402

FLOAT, FLOAT16 = 1, 10
IMAGES = np.random.default_rng(0).normal(0, 1, (2, 3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3, "N"])
@pytest.mark.parametrize("half", [False, True])
def test_maps_of_each_image_whatever_the_batch(batch, half):
    model = foreign_network(batch=batch, half=half)
    before = model.SerializeToString()
    network = ForeignNetwork(model, "f")
    assert (network.image, network.batch, network.size) == ("data", None if batch == "N" else batch, 64)
    name, element, maps = network.heatmaps(None, IMAGES)
    assert (name, element, maps.shape) == ("output", FLOAT16 if half else FLOAT, (2, 98, 16, 16))
    plain = foreign_network(batch="N", half=half)
    expected = run(plain, IMAGES.astype(np.float16 if half else np.float32))["output"]
    np.testing.assert_allclose(maps.astype(np.float32), expected, atol=0.05 if half else 1e-4)
    assert model.SerializeToString() == before


def test_heatmaps_may_be_an_inner_tensor():
    model = foreign_network()
    del model.graph.output[0]
    network = ForeignNetwork(model, "f")
    assert network.heatmaps("output", IMAGES)[2].shape == (2, 98, 16, 16)
    with pytest.raises(UsageError, match=r"gives landmarks int64 \[N, 98\]; heatmaps are .*with H at most 64 .*--heatmaps"):
        network.heatmaps(None, IMAGES)
    with pytest.raises(UsageError, match="has no tensor 'maps'; its outputs are landmarks"):
        network.heatmaps("maps", IMAGES)


def test_several_that_could_be_heatmaps():
    model = foreign_network()
    model.graph.output.append(onnx.helper.make_tensor_value_info("square", FLOAT, None))
    with pytest.raises(UsageError, match=r"gives output float32 \[N, 98, 16, 16\], landmarks .*, square .*: name the one to take"):
        ForeignNetwork(model, "f").heatmaps(None, IMAGES)


def test_weights_listed_as_inputs_and_an_old_ir_version():
    model = foreign_network(opset=11)
    model.ir_version = 3
    model.graph.input.extend(onnx.helper.make_tensor_value_info(i.name, i.data_type, i.dims) for i in model.graph.initializer)
    network = ForeignNetwork(model, "f")
    assert [i.name for i in network.model.graph.input] == ["data"]
    assert network.heatmaps(None, IMAGES)[0] == "output"


@pytest.mark.parametrize("shape", [["N", 3, "H", "W"], [1, 3, 64, "W"]])
def test_free_size_is_asked_for(shape):
    model = foreign_network(shape=shape)
    if shape[2] == "H":
        with pytest.raises(UsageError, match=r"leaves the size of its crops free; .*--input-size"):
            ForeignNetwork(model, "f")
    network = ForeignNetwork(model, "f", size=64)
    assert network.size == 64
    assert network.heatmaps(None, IMAGES)[2].shape == (2, 98, 16, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [1, 64, 64, 3]}, r"takes data \[1, 64, 64, 3\]; it must take float32 or float16 \[N, 3, S, S\]: export it so"),
        ({"shape": [1, 3, 64, 48]}, "must take"),
        ({"shape": [3, 64, 64]}, "must take"),
        ({"element": 2}, "must take float32"),
    ],
)
def test_other_inputs_are_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        ForeignNetwork(foreign_network(**changes), "f")


def test_arguments_that_do_not_fit():
    with pytest.raises(UsageError, match=r"has no input 'image'; its inputs are data \[1, 3, 64, 64\]"):
        ForeignNetwork(foreign_network(), "f", image="image")
    with pytest.raises(UsageError, match="are 64 x 64 pixels, not 128"):
        ForeignNetwork(foreign_network(), "f", size=128)
    two = foreign_network()
    two.graph.input.append(onnx.helper.make_tensor_value_info("flags", FLOAT, [1]))
    with pytest.raises(ModelError, match=r"takes one image; 'f' takes data \[1, 3, 64, 64\], flags \[1\]"):
        ForeignNetwork(two, "f")


@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_weights_in_another_file_are_refused(place, tmp_path):
    model = foreign_network()
    if place == "attribute":
        constant = model.graph.initializer[0]
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [constant.name], value=constant))
        model.graph.initializer.remove(constant)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, convert_attribute=True)
    lean = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    with pytest.raises(ModelError, match=r"The weights of 'f' lie in another file; bring them into one first: onnx\.save"):
        ForeignNetwork(lean, "f")


def test_network_that_does_not_run():
    model = foreign_network()
    model.graph.node[1].op_type = "Odd"
    with pytest.raises(ModelError, match=r"'f' uses the operator 'Odd'"):
        ForeignNetwork(model, "f").heatmaps(None, IMAGES)
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run 'f' \(.*\); export it again"):
        ForeignNetwork(foreign_network(shape=[1, 3, 32, 32]), "f").heatmaps(None, IMAGES[:, :, :32, :32])


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_upgraded(opset):
    model = foreign_network(opset=opset)
    new = upgraded(model, "f")
    assert new.opset_import[0].version == max(opset, 17)
    onnx.checker.check_model(new, full_check=True)
    np.testing.assert_allclose(run(new, IMAGES[:1])["output"], run(model, IMAGES[:1])["output"], atol=1e-5)


def test_what_cannot_be_upgraded_is_refused():
    model = foreign_network(opset=9)
    model.graph.node[1].op_type = "Upsample"  # without the scales that opset 9 wants
    with pytest.raises(ModelError, match=r"'f' is of opset 9 and cannot be brought to 17 \(.*\); export it with that opset\.$"):
        upgraded(model, "f")
