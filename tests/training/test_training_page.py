"""docs/training.md keeps its word: its commands, its Python and its recipe run in its order, on a few small pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

from tiny import write_faces  # noqa: E402

from keyposs_trt.cli.main import build_parser, main  # noqa: E402
from keyposs_trt.graph import read_spec  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/training.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SHORT = {"network.weights": None, "network.width": 8, "network.input_size": 128, "training.epochs": 1, "training.batch": 4,
         "training.workers": 0}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Pictures and their points as the page's converter reads them."""
    import json

    monkeypatch.chdir(tmp_path)
    for seed, part in enumerate(("train", "test")):
        content = json.loads(write_faces(tmp_path / "faces", 8, seed=seed).read_text())
        rows = []
        for image, annotation in zip(content["images"], content["annotations"], strict=True):
            name = f"{part}_{image['file_name']}"
            (tmp_path / "faces" / image["file_name"]).rename(tmp_path / "faces" / name)
            points = np.reshape(annotation["keypoints"], (-1, 3))[:, :2].ravel()
            rows.append(",".join(map(str, [name, image["width"], image["height"], *points])))
        (tmp_path / "faces" / f"{part}.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "faces" / "faces.json").unlink()
    (tmp_path / "photo.jpg").write_bytes((ROOT / "examples/astronaut.jpg").read_bytes())
    return tmp_path


def test_everything_on_the_page_runs(folder, capsys):
    assert [language for language, _ in BLOCKS] == ["python", "bash", "yaml", "bash", "shell", "bash", "bash", "shell", "shell"]
    for language, text in BLOCKS:
        if language == "python":
            exec(text, {})
        elif language == "yaml":
            recipe = yaml.safe_load(text)
            for key, value in SHORT.items():
                group, name = key.split(".")
                recipe[group][name] = value
            Path("mine.yaml").write_text(yaml.safe_dump(recipe))
        elif language == "bash":
            for command in text.splitlines():
                program, *arguments = shlex.split(command)
                assert program == "keyposs-trt"
                assert main(arguments) == 0, command + capsys.readouterr().err
    assert (read_spec("mine-32.onnx").heatmap_size, read_spec("mine-16.onnx").heatmap_size) == (32, 16)
    assert read_spec("mine-32.onnx").name == "mine-32"
    assert read_spec("mine-32.onnx").covariance_scale != 1
    assert (read_spec("mine-32.onnx").precision, read_spec("mine-32-int8.onnx").precision) == ("float", "int8")
    for name in ("sheet.jpg", "worst.jpg", "out.jpg"):
        assert cv2.imread(name) is not None
    table = Path("table.md").read_text()
    assert all(word in table for word in ("32", "16", "8", "argmax", "wls"))
    assert len(list(Path("engines").glob("*.plan")) + list(Path("engines").glob("*.engine"))) == 2


@pytest.mark.parametrize("command", [c for language, text in BLOCKS if language == "shell" for c in text.splitlines()])
def test_what_is_not_run_is_good_usage(command):
    _, *arguments = shlex.split(command.replace("torchrun --nproc-per-node 4 --module keyposs_trt.cli.main", "keyposs-trt"))
    build_parser().parse_args(arguments)
