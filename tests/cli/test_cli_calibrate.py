"""``keyposs-trt calibrate`` from end to end, on pictures with a spot for a face."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
from model_zoo import spot_image, template, tiny_model

from keyposs_trt.cli.main import main
from keyposs_trt.graph import is_quantised
from keyposs_trt.graph.calibration_file import read_calibration

if TYPE_CHECKING:
    from pathlib import Path

SIDE, MAP, POINTS = 32, 16, 68


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("cli_calibrate") / "tiny.onnx", points=POINTS, heatmap_size=MAP, input_size=SIDE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """20 pictures, with annotations in mmpose's layout."""
    folder = tmp_path_factory.mktemp("data")
    images, annotations = [], []
    for i in range(20):
        rng = np.random.default_rng(i)
        cell = (int(rng.integers(6, 10)), int(rng.integers(6, 10)))
        image = np.maximum(spot_image(SIDE, MAP, cell), rng.integers(0, 30, (SIDE, SIDE, 3)).astype(np.uint8))
        assert cv2.imwrite(str(folder / f"{i}.png"), image)
        points = np.clip((template(POINTS, MAP) + cell + 0.5) * SIDE / MAP - 0.5, 0, SIDE - 1)
        images.append({"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE})
        keypoints = np.c_[points, np.full(POINTS, 2)].ravel().tolist()
        low, high = points.min(0), points.max(0)
        annotations.append(
            {"id": i, "image_id": i, "category_id": 1, "keypoints": keypoints, "bbox": [*low, *(high - low)], "num_keypoints": POINTS}
        )
    text = json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]})
    (folder / "spots.json").write_text(text)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def eyes(monkeypatch):
    """A detector that sees a face in the middle of all but black pictures."""
    boxes = np.array([[3, 3, 29, 29]], np.float32)
    monkeypatch.setattr(
        "keyposs_trt.detection.load_detector", lambda *a, **k: lambda image: SimpleNamespace(boxes=boxes if image.any() else boxes[:0])
    )


def calibrate(model: Path, *more: object) -> int:
    return main(["calibrate", str(model), "--samples", "20", "--threads", "1", *map(str, more)])


def test_on_annotated_faces(model, data, here, capsys):
    assert calibrate(model, "--data", data / "spots.json") == 0
    out = capsys.readouterr().out
    assert "tiny_int8.onnx" in out
    assert "mse over 20 crops of" in out
    assert "1 layers in INT8" in out
    assert "Next: keyposs-trt build tiny_int8.onnx --precision int8" in out
    assert sorted(p.name for p in here.iterdir()) == ["tiny.calibration.json", "tiny_int8.onnx"]
    assert is_quantised(onnx.load(here / "tiny_int8.onnx"))


@pytest.mark.usefixtures("eyes")
def test_on_a_folder_by_the_detector(model, data, here):
    folder = here / "photos"
    folder.mkdir()
    for p in data.glob("*.png"):
        (folder / p.name).write_bytes(p.read_bytes())
    cv2.imwrite(str(folder / "black.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    assert calibrate(model, "--data", folder, "--method", "entropy", "-o", "q.onnx", "--json", "done.json", "--write-cache", "c.txt") == 0
    done = json.loads((here / "done.json").read_text())
    assert (done["method"], done["samples"], done["output"]) == ("entropy", 20, "q.onnx")
    assert done["bytes"] == (here / "q.onnx").stat().st_size
    assert (here / "c.txt").read_text().startswith("TRT-100300-")
    assert read_calibration(here / "tiny.calibration.json").method == "entropy"


@pytest.mark.usefixtures("eyes")
@pytest.mark.parametrize("damage", ["broken", "flat"])
def test_a_picture_that_cannot_be_used(model, data, here, capsys, damage):
    folder = here / "photos"
    folder.mkdir()
    for p in data.glob("*.png"):
        (folder / p.name).write_bytes(p.read_bytes())
    bad = folder / "bad.png"
    bad.write_bytes(b"broken") if damage == "broken" else cv2.imwrite(str(bad), np.full((SIDE, SIDE, 3), 9, np.uint8))
    assert main(["calibrate", str(model), "--data", str(folder), "--samples", "21"]) == 1
    error = capsys.readouterr().err
    assert "bad.png" in error
    assert "skip what has problems" in error
    assert [p.name for p in here.iterdir()] == ["photos"]
    assert calibrate(model, "--data", folder, "--on-problem", "skip") == 0


def test_auto(model, data, here, capsys):
    arguments = (
        "--data",
        data / "spots.json",
        "--auto",
        "--tolerance",
        "5",
        "--check-faces",
        "8",
        "--plot",
        "trade.png",
        "--json",
        "d.json",
    )
    assert calibrate(model, *arguments) == 0
    out = capsys.readouterr().out
    assert "8 faces, NME of FP32" in out
    assert "points on 8 faces" in out
    assert (here / "trade.png").read_bytes()[:4] == b"\x89PNG"
    decision = json.loads((here / "d.json").read_text())["decision"]
    assert decision["steps"][decision["chosen"]]["nme"] <= 5
    assert read_calibration(here / "tiny.calibration.json").accuracy["faces"] == 8


def test_ranges_again_and_diff(model, data, here, capsys):
    assert calibrate(model, "--data", data / "spots.json") == 0
    first = here / "tiny.calibration.json"
    assert calibrate(model, "--ranges", first, "--method", "minmax", "-o", "m.onnx", "--calibration", "m.calibration.json") == 0
    assert calibrate(model, "--ranges", first, "--exclude", "rows", "-o", "x.onnx", "--calibration", "x.calibration.json") == 0
    assert not any(n.op_type == "QuantizeLinear" for n in onnx.load(here / "x.onnx").graph.node)
    capsys.readouterr()
    assert main(["calibrate", "diff", str(first), str(first)]) == 0
    assert "0 of 1 ranges differ" in capsys.readouterr().out
    assert main(["calibrate", "diff", str(first), "m.calibration.json", "--json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["facts"] == {"method": ["mse", "minmax"]}
    assert found["same"] is False


def test_list(model, capsys):
    assert main(["calibrate", str(model), "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["stem", "int8", "head"]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ((), 2, "Say what to calibrate on: --data FOLDER"),
        (("--data", "nowhere"), 1, "There is no data set 'nowhere'"),
        (("--data", "{data}/spots.json", "--samples", "21"), 1, "has 20 images with a face among 20 faces, 21 are needed"),
        (("--data", "{data}/spots.json", "--samples", "8"), 1, "8 crops are too few"),
        (("--data", "{data}/spots.json", "--method", "max"), 2, "no calibration method 'max'"),
        (("--data", "{data}/spots.json", "--ranges", "x.json"), 2, "Give either --data"),
        (("--ranges", "x.json"), 1, "x.json"),
        (("--data", "{data}/spots.json", "--exclude", "nothing"), 2, "no convolution 'nothing'"),
        (("--data", "{data}/spots.json", "-o", "q.txt"), 2, "must end in .onnx"),
        (("--data", "{data}/spots.json", "-o", "no/q.onnx"), 2, "There is no folder"),
        (("--data", "{data}/spots.json", "-o", "{model}"), 2, "is the model too"),
        (("--data", "{data}/spots.json", "--plot", "p.png"), 2, "--plot draws the trade of --auto"),
        (("--data", "{data}/spots.json", "--auto", "--plot", "p.jpg"), 2, "--plot cannot write 'p.jpg'"),
        (("--data", "{data}/spots.json", "--auto", "--tolerance", "-1"), 2, "tolerance is points of NME"),
        (("--data", "{data}/spots.json", "--cache-version", "11.0.0"), 2, "no TensorRT that reads calibration caches"),
        (("--data", "{data}/spots.json", "--engine", "modelopt", "--method", "mse"), 2, "ModelOpt has no method 'mse'"),
        (("--data", "{data}/spots.json", "--engine", "modelopt", "--method", "entropy"), 1, "ModelOpt cannot be imported"),
    ],
)
def test_bad_input_is_one_sentence(model, data, here, capsys, more, code, words):
    arguments = [str(a).format(data=data, model=model) for a in more]
    assert calibrate(model, *arguments) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert list(here.iterdir()) == []


def test_a_quantised_model_is_not_quantised_again(model, data, here, capsys):
    assert calibrate(model, "--data", data / "spots.json") == 0
    assert calibrate(here / "tiny_int8.onnx", "--data", data / "spots.json") == 1
    assert "is quantised already; give the model it was made from" in capsys.readouterr().err
    assert main(["calibrate", str(model), "another.onnx"]) == 2
    assert "one model at a time" in capsys.readouterr().err
    assert main(["calibrate", "diff", "one.json"]) == 2
    assert "Give two calibrations" in capsys.readouterr().err


def test_modelopt_gets_the_plain_network_and_real_crops(model, data, here, monkeypatch):
    """A stand-in for ModelOpt, which checks what it is given and quantises as it would."""
    import sys

    from keyposs_trt.graph import quantise

    def quantize(**given: object) -> None:
        network = onnx.load(str(given["onnx_path"]))
        assert [o.name for o in network.graph.output] == ["heatmaps"]
        assert given["calibration_data"]["image"].shape == (20, SIDE, SIDE, 3)
        assert given["calibration_data"]["image"].std() > 1
        assert (given["calibration_method"], given["quantize_mode"], given["high_precision_dtype"]) == ("entropy", "int8", "fp16")
        assert {"stem", "columns", "preprocess/nchw"} <= set(given["nodes_to_exclude"])
        onnx.save(quantise(network, {"spots": 3.0}), str(given["output_path"]))

    for name in ("modelopt", "modelopt.onnx"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__="0.47.0"))
    monkeypatch.setitem(sys.modules, "modelopt.onnx.quantization", SimpleNamespace(quantize=quantize))
    assert calibrate(model, "--data", data / "spots.json", "--engine", "modelopt", "--method", "entropy") == 0
    found = read_calibration(here / "tiny.calibration.json")
    assert (found.method, found.ranges) == ("modelopt entropy", {"spots": pytest.approx(3.0, rel=1e-3)})
    made = onnx.load(here / "tiny_int8.onnx")
    assert [o.name for o in made.graph.output] == ["landmarks", "scores", "covariance"]
    assert is_quantised(made)
