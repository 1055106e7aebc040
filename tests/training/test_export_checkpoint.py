"""Checkpoints become ONNX models with each decoder; the checkpoint is untrained, and needs no data."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from keyposs_trt.cli.main import main  # noqa: E402
from keyposs_trt.errors import BuildError, UsageError  # noqa: E402
from keyposs_trt.graph import change_decoder, read_spec, spec_of_model  # noqa: E402
from keyposs_trt.graph.contract import PLUGIN_NAME  # noqa: E402
from keyposs_trt.landmarker import Landmarker  # noqa: E402
from keyposs_trt.training.checkpoint import load_checkpoint  # noqa: E402
from keyposs_trt.training.export import check_against_torch, export_checkpoint, to_onnx  # noqa: E402
from keyposs_trt.training.module import LandmarkModule  # noqa: E402
from keyposs_trt.training.recipe_file import recipe_from_dict  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = {"weights": None, "width": 8, "input_size": 64, "heatmap_size": 16}
    recipe = recipe_from_dict({"name": "tiny", "network": network}).to_dict()
    module = LandmarkModule(recipe, pretrained=False)
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save({"hyper_parameters": {"recipe": recipe}, "state_dict": module.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def module(checkpoint):
    return load_checkpoint(checkpoint)


def test_each_decoder(checkpoint, tmp_path, capsys):
    sizes = {}
    for decoder in ("onnx", "plugin", "none"):
        out = tmp_path / f"{decoder}.onnx"
        assert main(["export", str(checkpoint), "--decoder", decoder, "--radius", "3", "-o", str(out)]) == 0
        onnx.checker.check_model(str(out), full_check=True)
        spec = spec_of_model(onnx.load(out), out)
        assert (spec.decoder, spec.decoder_parameters["radius"]) == ({"onnx": "wls"}.get(decoder, decoder), 3)
        sizes[decoder] = out.stat().st_size
    said = capsys.readouterr().out
    assert f"Next: keyposs-trt build {tmp_path / 'plugin.onnx'} --backend tensorrt" in said
    assert onnx.load(tmp_path / "plugin.onnx").graph.node[-1].op_type == PLUGIN_NAME
    assert sizes["none"] < sizes["plugin"] < sizes["onnx"]
    with Landmarker.load(tmp_path / "onnx.onnx", detector=None) as landmarker:
        (face,) = landmarker(np.full((80, 80, 3), 128, np.uint8), [[10, 10, 70, 70]])
    assert face.points.shape == (68, 2)


def test_default_name_lies_beside_the_checkpoint(checkpoint):
    out = export_checkpoint(checkpoint)
    assert out == checkpoint.parent / "tiny.onnx"
    assert read_spec(out).name == "tiny"


def test_the_same_as_changing_the_decoder_afterwards(module):
    late, early = change_decoder(to_onnx(module), "plugin", {"prior": 0.2}), to_onnx(module, "plugin", {"prior": 0.2})
    assert late.graph.node[-1] == early.graph.node[-1]
    assert spec_of_model(late, "m") == spec_of_model(early, "m")


@pytest.mark.parametrize("decoder", ["wls", "plugin", "none"])
def test_maps_are_checked_whatever_the_decoder(module, decoder):
    model = to_onnx(module, decoder)
    check_against_torch(model, module)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    head = next(i for i in wrong.graph.initializer if i.name == "network.head.16.weight")
    head.CopyFrom(onnx.numpy_helper.from_array(3 * onnx.numpy_helper.to_array(head), head.name))
    with pytest.raises(BuildError, match="maps differ"):
        check_against_torch(wrong, module)


def test_parameters_that_make_no_sense(checkpoint, tmp_path, capsys):
    with pytest.raises(UsageError, match="no parameter 'floor'"):
        export_checkpoint(checkpoint, tmp_path / "m.onnx", parameters={"floor": 0.1})
    assert main(["export", str(checkpoint), "--radius", "40", "-o", str(tmp_path / "m.onnx")]) == 2
    assert "radius must be a whole number" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
