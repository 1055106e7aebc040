from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
from model_zoo import tiny_model

from keyposs_trt.cli import build as verb
from keyposs_trt.cli.main import main
from keyposs_trt.engine import manifest as manifest_module
from keyposs_trt.engine.gpu import Driver

pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
pytest.importorskip("onnx")
pytestmark = pytest.mark.rtx


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Without a decoder, which takes most of the build."""
    return tiny_model(tmp_path_factory.mktemp("cli_build") / "tiny.onnx", points=5, heatmap_size=16, input_size=32, decoder="none")


def build(model, out, *more: str) -> int:
    return main(["build", str(model), "-o", str(out), "--backend", "tensorrt-rtx", *more])


def test_both_precisions_by_default(model, tmp_path, capsys):
    assert build(model, tmp_path, "--gpu", "sm86", "sm120", "--batch", "1:2:8") == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split()[0] for line in lines] == [str(tmp_path / f"tiny_{p}_tensorrt-rtx.plan") for p in ("fp32", "fp16")]
    assert "sm86 sm120" in lines[0]
    assert "fp16: Building the engine" in captured.err
    assert len(list(tmp_path.iterdir())) == 4
    values = json.loads((tmp_path / "tiny_fp16_tensorrt-rtx.plan.json").read_text())
    assert (values["precision_found"], values["targets"], values["batch"]) == ("fp16", ["sm86", "sm120"], [1, 2, 8])


def test_the_manifests_command_builds_the_same_plan(model, tmp_path):
    import shlex

    assert build(model, tmp_path, "--precision", "fp16", "--workspace", "512") == 0
    manifest = tmp_path / "tiny_fp16_tensorrt-rtx.plan.json"
    first = json.loads(manifest.read_text())
    for path in tmp_path.iterdir():
        path.unlink()
    assert main(shlex.split(first["rebuild"])[1:]) == 0
    second = json.loads(manifest.read_text())
    same = ("model", "onnx_sha256", "plan", "plan_bytes", "targets", "batch", "workspace", "layers", "rebuild")
    assert {k: second[k] for k in same} == {k: first[k] for k in same}


def test_one_failure_is_reported_and_the_rest_is_built(model, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert build(model, tmp_path / "out", "--precision", "int8", "fp32", "--json", str(report)) == 1
    captured = capsys.readouterr()
    assert "error: " in captured.err
    assert "Q/DQ" in captured.err
    assert "Traceback" not in captured.err
    int8, fp32 = json.loads(report.read_text())
    assert (int8["plan"], int8["manifest"]) == (None, None)
    assert "Q/DQ" in int8["error"]
    assert (fp32["error"], fp32["manifest"]["precision"]) == (None, "fp32")


@pytest.mark.parametrize("report", ["file/report.json", "folder"])
def test_a_report_that_cannot_be_written_is_told_before_the_build(model, tmp_path, capsys, report):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert build(model, tmp_path / "out", "--json", str(tmp_path / report)) == 1
    captured = capsys.readouterr()
    assert f"error: Cannot write '{tmp_path / report}'" in captured.err
    assert "Building" not in captured.err
    assert not (tmp_path / "out").exists()


def test_trying_the_report_leaves_nothing_and_keeps_an_old_one(model, tmp_path):
    report = tmp_path / "report.json"
    for before in ([], [report]):
        for path in before:
            path.write_text("old")
        assert build(model, tmp_path / "out", "--gpu", "sm90", "--json", str(report)) == 2
        assert list(tmp_path.iterdir()) == before
    assert report.read_text() == "old"


def test_json_on_standard_output_stands_alone(model, tmp_path, capsys):
    assert build(model, tmp_path, "--precision", "fp32", "--json", "-") == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--gpu", "sm90"], "known are sm75"),
        (["--precision", "fp8"], "known are fp32, fp16, int8"),
        (["--batch", "8:4:1"], "8:4:1"),
        (["--workspace", "-1"], "workspace"),
    ],
)
def test_usage_errors(model, tmp_path, capsys, more, words):
    assert build(model, tmp_path / "out", *more) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_batch_that_is_no_batch(model, tmp_path, capsys):
    with pytest.raises(SystemExit) as e:
        build(model, tmp_path, "--batch", "many")
    assert e.value.code == 2
    assert "not MIN:BEST:MAX" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_unreadable_model(tmp_path, capsys, content):
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    assert build(path, tmp_path / "out") == 1
    assert "bad.onnx" in capsys.readouterr().err


def test_interrupt(model, tmp_path, capsys, monkeypatch):
    sent = []

    def show(self: object, precision: str, phase: str, done: int, total: int) -> None:
        if total and not sent:
            sent.append(phase)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(verb._ProgressLine, "show", show)
    assert build(model, tmp_path) == 1
    assert capsys.readouterr().err == "interrupted\n"
    assert sent
    assert list(tmp_path.iterdir()) == []


def test_progress_line_on_a_terminal():
    class Terminal(list[str]):
        write = list.append

        def isatty(self) -> bool:
            return True

        def flush(self) -> None:
            pass

    out = Terminal()
    line = verb._ProgressLine(out)  # pyright: ignore[reportArgumentType]
    line.show("fp16", "Timing a graph", 3, 12)
    line.show("fp16", "Writing", 0, 0)
    line.clear()
    assert out[0] == "\rfp16: Timing a graph 3/12"
    assert out[1] == "\rfp16: Writing".ljust(len(out[0]))
    assert out[2].strip() == ""


def test_running_a_plan_without_a_gpu_is_one_sentence(model, tmp_path, capsys, monkeypatch):
    import cv2

    assert build(model, tmp_path, "--precision", "fp16") == 0
    monkeypatch.setattr(manifest_module, "query_driver", lambda: Driver(None, (), "no NVIDIA driver"))
    monkeypatch.setattr(manifest_module, "current_gpu", lambda: None)
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.zeros((64, 64, 3), np.uint8))
    capsys.readouterr()
    assert main(["run", str(photo), "--no-detect", "--model", str(tmp_path / "tiny_fp16_tensorrt-rtx.plan")]) == 1
    err = capsys.readouterr().err
    assert "needs an NVIDIA GPU" in err
    assert "--backend onnxruntime" in err
    assert err.count("\n") == 1
