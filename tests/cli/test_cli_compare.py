"""``keyposs-trt compare``."""

from __future__ import annotations

import base64
import json
import re
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_media import ROOT
from compare_tools import calibration, engine
from faces_with_spots import spots
from model_zoo import tiny_model

from keyposs_trt.cli.main import build_parser, main
from keyposs_trt.evaluation import twins

PAGE = (ROOT / "docs/compare.md").read_text()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return spots(tmp_path_factory.mktemp("data"), 5)


def compared(*arguments):
    return main(["compare", *map(str, arguments), "--threads", "1"])


def test_table_json_and_markdown(model, data, tmp_path, capsys):
    out = tmp_path / "out"
    ranges = calibration(model, tmp_path / "r.calibration.json")
    asked = ("--precision", "fp16", "int8", "--calibration", ranges, "--decoder", "model", "argmax")
    assert compared(model, "--data", data, *asked, "--json", out / "c.json", "--table", out / "c.md") == 0
    text, err = capsys.readouterr()
    assert err == ""
    assert sorted(p.name for p in out.iterdir()) == ["c.json", "c.md"]
    tree = json.loads((out / "c.json").read_text())
    assert tree["met"] is True
    assert (tree["version"], tree["norm"], tree["data"]["faces"], tree["threads"]) == (1, "inter_ocular", 5, 1)
    assert tree["gates"] == {"max_nme_increase_points": {"fp32": 0.02, "fp16": 0.02, "int8": 0.1}, "max_drift_p99_pixels": {}}
    keys = (
        "model heatmap_size precision runtime runs_on twin note decoder file_bytes faces missed nme fr_0.1 auc_0.1 nme_increase "
        "nme_increase_error drift latency_ms faces_per_second joules_per_face power layers verdict"
    )
    assert [list(row) for row in tree["rows"]] == [keys.split()] * 6
    assert set(keys.split()) <= set(re.findall(r"`([\w.]+)`", PAGE))
    assert [(r["precision"], r["decoder"]) for r in tree["rows"]] == [(p, d) for p in ("fp32", "fp16", "int8") for d in ("model", "argmax")]
    assert {r["verdict"]["kind"] for r in tree["rows"]} == {"reference", "pass"}
    assert tree["rows"][0]["nme_increase"] is None
    lines = text.splitlines()
    assert "boxes       around the labelled points x 1.25" in lines
    assert lines[-1] == "6 of 6 rows are as they should be."
    row = next(line.split() for line in lines if line.split()[1:2] == ["fp16"])
    r = tree["rows"][2]
    assert row[1:9] == [
        *("fp16", "onnxruntime", "model", "32", f"{r['file_bytes'] / 1e6:.2f}"),
        *(f"{100 * r['nme']:.2f}", f"{100 * r['nme_increase']:+.3f}", f"{100 * r['fr_0.1']:.2f}"),
    ]
    markdown = [[cell.strip() for cell in line.strip("|").split("|")] for line in (out / "c.md").read_text().splitlines()]
    assert len({len(line) for line in markdown}) == 1
    assert markdown[4][1:9] == row[1:9]
    assert compared(model, "--data", data, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["met"]


def test_a_bad_calibration_ends_with_one(model, data, tmp_path, capsys):
    ranges = calibration(model, tmp_path / "r.calibration.json", largest=1000)
    asked = (model, "--data", data, "--precision", "int8", "--calibration", ranges)
    assert compared(*asked) == 1
    out = capsys.readouterr().out
    assert "fail: NME +" in out
    assert out.splitlines()[-1] == "1 of 2 rows are as they should be, 1 not."
    assert compared(*asked, "--max-nme-increase", "10000") == 0
    assert compared(*asked, "--max-nme-increase", "int8=10000", "--max-drift", "int8=1") == 1
    assert "fail: drift p99 " in capsys.readouterr().out
    assert compared(model, "--data", data, "--precision", "int8") == 1
    assert "error: INT8 needs ranges measured on images" in capsys.readouterr().out


class Reader(HTMLParser):
    """Tags that are closed, pictures, cells, and what leads out of the file."""

    alone = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.pictures, self.cells, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.alone:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data"):
                (self.pictures if value.startswith("data:image/") else self.links).append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def read_report(path):
    text = path.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert reader.links == []
    assert not re.search(r"<script|<link|@import|url\(|https?:", text)
    assert len(text) < 3_000_000
    for source in reader.pictures:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        assert picture.std() > 5
    return reader


def test_the_report(model, data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    odd = tmp_path / "<b>&odd.onnx"
    odd.write_bytes(model.read_bytes())
    ranges = calibration(model, tmp_path / "r.calibration.json")
    plan = engine(odd, tmp_path / "an.plan")
    report = tmp_path / "out/report.html"
    asked = ("--precision", "fp16", "int8", "--calibration", ranges, "--latency", "--html", report)
    assert compared(odd, plan, "--data", data, *asked) == 0
    out = capsys.readouterr().out
    reader = read_report(report)
    assert len(reader.pictures) == 4  # NME, CED, latency, and the sheet of the one model
    assert [kind.split(";")[0] for kind in reader.pictures] == ["data:image/png"] * 3 + ["data:image/jpeg"]
    for cell in (str(odd), str(plan), "tensorrt-rtx (twin: onnxruntime)", "reference", "pass", "fp16", "int8"):
        assert cell in reader.cells
    assert reader.cells.count("pass") == 3
    assert "A twin is the same network" in report.read_text()
    assert "A twin is the same network" in out
    assert "p50 ms" in out
    assert compared(odd, "--data", data, "--html", report) == 0
    assert len(read_report(report).pictures) == 3
    assert "No time was measured" in report.read_text()


def test_layers_in_the_report(model, data, tmp_path, capsys):
    pytest.importorskip("polygraphy")
    pytest.importorskip("matplotlib")
    report = tmp_path / "report.html"
    assert compared(model, "--data", data, "--layers", "--html", report, "--json", tmp_path / "c.json") == 0
    assert "layers of " in capsys.readouterr().out
    assert "AveragePool" in read_report(report).cells
    layers = json.loads((tmp_path / "c.json").read_text())["rows"][1]["layers"]
    assert [list(layer) for layer in layers] == [["layer", "operator", "tensor", "relative", "mean", "largest"]] * 5


def test_layers_without_polygraphy(model, data, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "polygraphy.backend.onnx", None)
    assert compared(model, "--data", data, "--layers") == 1
    assert capsys.readouterr().err.endswith("which is not installed: pip install polygraphy.\n")


def test_a_model_of_the_family_by_name(data, capsys):
    """Shipped models: only what is said of one without a calibration, wherever that may lie."""
    assert compared("face68", "--heatmap", "4", "--data", data, "--faces", "1", "--precision", "fp16") in (0, 1)
    assert "face68-4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gone", "--data", "{data}"], 1, "There is no model 'gone'"),
        (["{model}", "{model}", "--data", "{data}"], 2, "The model '{model}' is named twice"),
        (["{model}", "--data", "gone"], 1, "There is no data set 'gone'"),
        (["a.pth", "--data", "{data}"], 2, "make a model of it first: keyposs-trt export a.pth"),
        (["a.plan", "--data", "{data}"], 1, "has no manifest"),
        (["a.plan", "--data", "{data}", "--heatmap", "32"], 2, "leave out --heatmap"),
        (["{model}", "--data", "{data}", "--heatmap", "16"], 1, "There is no model"),
        (["{model}", "--data", "{data}", "--precision", "fp8"], 2, "'fp8' is no precision"),
        (["{model}", "--data", "{data}", "--backend", "cuda"], 2, "'cuda' is no backend"),
        (["{model}", "--data", "{data}", "--decoder", "wsl"], 2, "no decoder 'wsl'"),
        (["{model}", "--data", "{data}", "--max-nme-increase", "much"], 2, "'much' of --max-nme-increase is no limit"),
        (["{model}", "--data", "{data}", "--max-drift", "fp8=1"], 2, "'fp8=1' of --max-drift is no limit"),
        (["{model}", "--data", "{data}", "--calibration", "gone"], 2, "There is no calibration 'gone'"),
        (["{model}", "--data", "{data}", "--scheme", "cofw"], 2, "'cofw'"),
        (["{model}", "--data", "{data}", "--json", "{model}"], 2, "is a model too"),
        (["{model}", "--data", "{data}", "--html", "r", "--table", "r"], 2, "is that of --html too"),
        (["{model}", "--data", "{data}", "--html", "."], 1, "it is a folder"),
        (["{model}", "--data", "{data}", "--table", "a.plan/t.md"], 1, "Cannot write 'a.plan/t.md'"),
    ],
)
def test_bad_input_is_one_sentence(model, data, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.pth", "a.plan"):
        Path(name).write_bytes(b"x")
    assert compared(*(a.format(model=model, data=data) for a in arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message.format(model=model) in err
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.plan", "a.pth"]


def test_outputs_are_tried_before_the_work(model, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(twins, "load_onnx", lambda path: pytest.fail("it has begun"))
    (tmp_path / "x").write_bytes(b"")
    assert compared(model, "--data", data, "--html", tmp_path / "x/r.html") == 1
    assert "Cannot write" in capsys.readouterr().err


def test_the_commands_of_the_page_are_good_usage():
    commands = re.findall(r"^    (keyposs-trt compare .+)$", PAGE, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        build_parser().parse_args(shlex.split(command)[1:])
