"""docs/grafting.md keeps its word: its commands and its Python run, in its order, on tiny models under the names it uses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from model_zoo import heatmap_network

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from keyposs_trt.cli.main import build_parser, main  # noqa: E402
from keyposs_trt.graph import read_spec, spec_of_model  # noqa: E402
from keyposs_trt.training.module import LandmarkModule  # noqa: E402
from keyposs_trt.training.recipe_file import recipe_from_dict  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/grafting.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the page starts from."""
    monkeypatch.chdir(tmp_path)
    Path("runs/face68").mkdir(parents=True)
    recipe = recipe_from_dict({"name": "face68", "network": {"weights": None, "width": 8, "input_size": 64, "heatmap_size": 16}}).to_dict()
    torch.manual_seed(0)
    weights = LandmarkModule(recipe, pretrained=False).state_dict()
    torch.save({"hyper_parameters": {"recipe": recipe}, "state_dict": weights}, "runs/face68/last.ckpt")
    network = heatmap_network(points=98, heatmap_size=16, input_size=64)
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(network, "hrnet.onnx")
    Path("photo.jpg").write_bytes((ROOT / "examples/astronaut.jpg").read_bytes())
    return tmp_path


def test_everything_on_the_page_runs(folder):
    assert [language for language, _ in BLOCKS] == ["bash", "bash", "bash", "python", "python"]
    for language, text in BLOCKS:
        if language == "python":
            names: dict[str, object] = {}
            exec(text, names)
            if "landmarker" in names:
                assert np.isfinite(names["landmarker"](np.zeros((64, 64, 3), np.uint8), [[8, 8, 56, 56]])[0].points).all()  # type: ignore[operator]
            continue
        for command in text.splitlines():
            program, *arguments = shlex.split(command)
            assert program == "keyposs-trt"
            assert main(arguments) == 0, command
    assert read_spec("face.onnx").decoder == "wls"
    assert read_spec("face68-32-r4.onnx").decoder_parameters["radius"] == 4
    assert (read_spec("hrnet-wflw.onnx").scheme, read_spec("hrnet-wflw.onnx").licence) == ("wflw", "Apache-2.0")
    for name, radius in (("face68-32-plugin", None), ("hrnet-wflw-plugin", 4)):
        spec = spec_of_model(onnx.load(f"{name}.onnx"), name)
        assert spec.decoder == "plugin"
        assert radius in (None, spec.decoder_parameters["radius"])
    assert (folder / "out").exists()


def test_the_table_of_options_is_complete():
    """Each option for networks of other tools is explained, and each explained one exists."""
    known = set(build_parser().parse_args(["export", "m.onnx"]).foreign_options)
    told = {
        word[2:].replace("-", "_") for word in re.findall(r"^\| (`--.*?) \|", PAGE, re.MULTILINE) for word in re.findall(r"--[\w-]+", word)
    }
    assert told - {"decoder"} == known - {"name"}


def test_links_lead_somewhere():
    for page in ("grafting.md", "graph_contract.md"):
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "docs" / page).read_text())
        assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
