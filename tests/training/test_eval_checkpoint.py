"""``keyposs-trt eval`` on a checkpoint; it is untrained, and needs no data."""

from __future__ import annotations

import json
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from dataset_files import views  # noqa: E402

from keyposs_trt.cli.main import main  # noqa: E402
from keyposs_trt.training.export import export_checkpoint  # noqa: E402
from keyposs_trt.training.module import LandmarkModule  # noqa: E402
from keyposs_trt.training.recipe_file import recipe_from_dict  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = {"weights": None, "width": 8, "input_size": 64, "heatmap_size": 16, "coarser": [8]}
    recipe = recipe_from_dict({"name": "tiny", "network": network}).to_dict()
    module = LandmarkModule(recipe, pretrained=False)
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save({"hyper_parameters": {"recipe": recipe}, "state_dict": module.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return views(tmp_path_factory.mktemp("views") / "a.npz").parent


def evaluated(*arguments):
    return main(["eval", *map(str, arguments), "--threads", "1"])


def test_each_size_by_each_decoder(checkpoint, data, tmp_path, capsys):
    command = (checkpoint, "--data", data, "--decoder", "model", "argmax")
    assert evaluated(*command, "--heatmap", "16", "8", "--json", "-") == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["table"]["columns"] == [{"model": str(checkpoint), "heatmap_size": s} for s in (16, 8)]
    for size, record in zip((16, 8), tree["models"], strict=True):
        exported = export_checkpoint(checkpoint, tmp_path / f"{size}.onnx", fp16_weights=False, heatmap=size)
        assert evaluated(exported, *command[1:], "--json", "-") == 0
        assert record == json.loads(capsys.readouterr().out)
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    assert evaluated(*command, "--json", "-") == 0  # the finest
    assert json.loads(capsys.readouterr().out) == tree["models"][0]


def test_what_is_wrong_is_one_sentence(checkpoint, data, tmp_path, monkeypatch, capsys):
    damaged = tmp_path / "a.ckpt"
    damaged.write_bytes(b"x")
    for arguments, code, message in (
        ((damaged,), 1, "is damaged or not a checkpoint"),
        ((tmp_path / "gone.ckpt",), 1, "There is no checkpoint"),
        ((checkpoint, "--heatmap", "32"), 2, "16, 8, not 32"),
    ):
        assert evaluated(*arguments, "--data", data) == code
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err
    monkeypatch.delitem(sys.modules, "keyposs_trt.training.export")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert evaluated(checkpoint, "--data", data) == 1
    assert "A checkpoint needs the package 'torch'; install it with: pip install torch" in capsys.readouterr().err
