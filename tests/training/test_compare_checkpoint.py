"""``keyposs-trt compare`` on a checkpoint; it is untrained."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from faces_with_spots import spots  # noqa: E402

from keyposs_trt.cli.main import main  # noqa: E402
from keyposs_trt.training.module import LandmarkModule  # noqa: E402
from keyposs_trt.training.recipe_file import recipe_from_dict  # noqa: E402


def test_each_size_of_a_checkpoint(tmp_path, capsys):
    torch.manual_seed(0)
    network = {"weights": None, "width": 8, "input_size": 64, "heatmap_size": 16, "coarser": [8]}
    recipe = recipe_from_dict({"name": "tiny", "network": network}).to_dict()
    file = tmp_path / "last.ckpt"
    torch.save({"hyper_parameters": {"recipe": recipe}, "state_dict": LandmarkModule(recipe, pretrained=False).state_dict()}, file)
    data = spots(tmp_path / "data", 2)
    asked = ["--precision", "fp16", "int8", "--max-nme-increase", "100", "--json", "-", "--threads", "1"]
    assert main(["compare", str(file), "--heatmap", "16", "8", "--data", str(data), *asked]) == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    names = {16: f"{file} (16)", 8: f"{file} (8)"}
    assert [(r["model"], r["heatmap_size"], r["precision"]) for r in rows] == [
        (names[s], s, p) for s in (16, 8) for p in ("fp32", "fp16", "int8")
    ]
    assert [r["verdict"]["kind"] for r in rows] == ["reference", "pass", "error"] * 2
    assert "INT8 needs ranges measured on images, and a checkpoint has none; export it" in rows[2]["verdict"]["text"]
    assert list(tmp_path.glob("*.ckpt")) == [file]
