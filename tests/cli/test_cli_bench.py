"""``keyposs-trt bench``: what it prints and writes, and what it refuses; no speed is tested."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import onnxruntime
import pytest
from cli_media import ASTRONAUT, ROOT, leftovers, write_video
from model_zoo import tiny_model, tiny_spec

from keyposs_trt import __version__
from keyposs_trt.bench import pictures
from keyposs_trt.cli.main import build_parser, main
from keyposs_trt.engine import manifest as manifest_module
from keyposs_trt.engine.gpu import Driver
from keyposs_trt.engine.manifest import Manifest, this_platform, write_plan

STAGES = ["read", "detect", "crop", "copy in", "network", "landmarks out", "draw"]
QUICK = ("--repeat", "2", "--warm-up", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def benched(*arguments):
    return main(["bench", *map(str, arguments), *QUICK])


def refused(capsys, code, *arguments):
    """The one sentence of an error."""
    assert benched(*arguments) == code
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert line.startswith("error: ")
    assert line.endswith(".")
    return line


def test_the_default_model_and_picture(capsys, tmp_path):
    target = tmp_path / "new" / "found.json"
    assert benched("--json", target) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("face68-32: end to end ")
    assert "frames a second" in lines[0]
    assert "picture   astronaut.jpg, 512x512 (image)" in lines
    assert any(line.startswith(f"passes    2 after 1 to warm up, threads: 1, keyposs-trt {__version__}, 20") for line in lines)
    for name in ("read image", *STAGES[1:], "detect to landmarks"):
        assert sum(line.startswith(f"  {name}  ") for line in lines) == 1
    assert [line.split()[0] for line in lines[-5:]] == ["1", "2", "4", "8", "16"]
    tree = json.loads(target.read_text())
    assert leftovers(tmp_path) == []
    (found,) = tree["models"]
    assert [s["stage"] for s in found["stages"]] == STAGES
    assert (found["model"], found["input_size"], found["heatmap_size"]) == ("face68-32", 128, 32)
    assert found["runtime"] == {"name": "ONNX Runtime", "version": onnxruntime.__version__, "device": "CPU"}
    assert set(tree["machine"]) == {"cpu", "cores", "usable", "load", "system", "python"}
    assert tree["tool"] == f"keyposs-trt {__version__}"
    assert (tree["threads"], tree["repeat"], tree["warm_up"], tree["comparison"]) == (1, 2, 1, None)


def test_a_video_and_json_alone(model, tmp_path, capsys):
    source = write_video(tmp_path / "face.avi", 3)
    assert benched(model, "--source", source, "--threads", "2", "--batch", "--json", "-") == 0
    out, err = capsys.readouterr()
    assert err == ""
    tree = json.loads(out)
    assert tree["source"] == {"name": "face.avi", "kind": "video", "width": 160, "height": 160}
    (found,) = tree["models"]
    assert found["stages"][0]["title"] == "decode video"
    assert found["end_to_end_followed"]["count"] == 2
    assert found["batches"] == []
    assert tree["threads"] == 2


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--against", "face68-16"), ["face68-32", "face68-16"]),
        (("--against-backend", "onnxruntime"), ["face68-32", "face68-32"]),
    ],
)
def test_two_models_in_turns(options, names, capsys, tmp_path):
    target = tmp_path / "found.json"
    assert benched("face68-32", *options, "--batch", "1", "2", "--json", target) == 0
    out = capsys.readouterr().out
    assert f"A {names[0]} against B {names[1]}, in turns (A B A B)" in out
    tree = json.loads(target.read_text())
    assert [m["model"] for m in tree["models"]] == names
    rows = {row["what"]: row for row in tree["comparison"]["rows"]}
    assert {"end to end", "detect", "network", "landmarks out", "network and landmarks out", "batch 1", "batch 2"} < set(rows)
    for row in rows.values():
        assert row["low"] <= row["high"]
        assert row["ratio"] == pytest.approx(row["a"] / row["b"], rel=0.01)


def test_names_that_make_no_sense(model, capsys, tmp_path):
    assert "'nothing'" in refused(capsys, 1, "nothing")
    assert "'nothing'" in refused(capsys, 1, model, "--against", "nothing")
    assert "no face detector 'eyes'" in refused(capsys, 2, model, "--detector", "eyes")
    assert "there is no file" in refused(capsys, 1, model, "--source", tmp_path / "missing.jpg").lower()
    assert "camera" in refused(capsys, 2, model, "--source", "0")
    assert "runs engines" in refused(capsys, 2, model, "--backend", "tensorrt")
    assert "runs engines" in refused(capsys, 2, model, "--against-backend", "tensorrt-rtx")
    assert "batch of 2000" in refused(capsys, 2, model, "--batch", "2000")
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(b"x")
    assert "export it first" in refused(capsys, 1, checkpoint)


@pytest.mark.parametrize(
    "options", [("--repeat", "0"), ("--threads", "none"), ("--batch", "0"), ("--backend", "abacus"), ("--warm-up", "-1")]
)
def test_numbers_that_make_no_sense(options, capsys):
    with pytest.raises(SystemExit) as done:
        main(["bench", *options])
    assert done.value.code == 2
    assert "error: argument --" in capsys.readouterr().err


def test_pictures_that_cannot_be_used(model, capsys, tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((128, 128, 3), 128, np.uint8))
    assert "no face in 'grey.png'" in refused(capsys, 1, model, "--source", tmp_path / "grey.png")
    (tmp_path / "cut.jpg").write_bytes(ASTRONAUT.read_bytes()[:5000])
    assert "cut off" in refused(capsys, 1, model, "--source", tmp_path / "cut.jpg")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert "not a video" in refused(capsys, 1, model, "--source", tmp_path / "broken.mp4")
    monkeypatch.setattr(pictures, "SAMPLE", tmp_path / "none.jpg")
    assert "with --source" in refused(capsys, 2, model)


def test_json_is_checked_before_anything_is_measured(model, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("keyposs_trt.bench.bench", lambda *_: pytest.fail("it was measured"))
    assert "folder" in refused(capsys, 1, model, "--json", tmp_path)
    (tmp_path / "file").write_text("x")
    assert "Cannot write" in refused(capsys, 1, model, "--json", tmp_path / "file" / "found.json")
    assert "would overwrite the model" in refused(capsys, 2, model, "--json", model)
    picture = tmp_path / "a.jpg"
    picture.write_bytes(ASTRONAUT.read_bytes())
    assert "would overwrite the source" in refused(capsys, 2, model, "--source", picture, "--json", picture)
    assert picture.read_bytes() == ASTRONAUT.read_bytes()
    assert leftovers(tmp_path) == []


def test_a_failure_leaves_an_old_report_alone(model, capsys, tmp_path):
    report = tmp_path / "found.json"
    report.write_text("old")
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((128, 128, 3), 128, np.uint8))
    refused(capsys, 1, model, "--source", tmp_path / "grey.png", "--json", report)
    assert report.read_text() == "old"


def test_an_engine_without_a_gpu(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_module, "query_driver", lambda: Driver(None, (), "no NVIDIA driver"))
    monkeypatch.setattr(manifest_module, "current_gpu", lambda: None)
    path = tmp_path / "tiny_fp16_tensorrt.plan"
    trt = ModuleType("tensorrt")
    trt.__dict__["__version__"] = "10.3.0"
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    plan = b"a plan"
    values = {
        "model": "face68-32", "onnx_sha256": "", "plan": path.name, "plan_sha256": hashlib.sha256(plan).hexdigest(), "plan_bytes": 6,
        "spec": tiny_spec(), "precision": "fp16", "precision_found": "fp16", "layers": {}, "runtime": "tensorrt",
        "runtime_version": "10.3.0", "cuda": "12.6", "platform": this_platform(), "gpu": "Orin", "targets": ("sm87",), "batch": (1, 2, 4),
        "workspace": None, "tool": "", "created": "", "build_seconds": 1.0,
    }  # fmt: skip
    write_plan(path, plan, Manifest(**values))
    assert main(["bench", str(path), *QUICK]) == 1
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert "GPU" in line
    assert "no NVIDIA driver" in line


def test_the_page_shows_good_usage():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    commands = [line.strip() for line in page.splitlines() if line.startswith("    keyposs-trt ")]
    assert len(commands) >= 4
    for command in commands:
        args = build_parser().parse_args(shlex.split(command)[1:])
        assert args.verb == "bench"
    for option in ("--source", "--repeat", "--warm-up", "--threads", "--batch", "--against", "--against-backend", "--json"):
        assert option in page
    assert Path(ROOT / "benchmarks/stages.py").exists()
