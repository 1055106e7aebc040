from __future__ import annotations

import json

import pytest
from model_zoo import tiny_model

from keyposs_trt.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("cli_inspect") / "tiny.onnx", points=5, heatmap_size=16, input_size=32)


def test_table(model, capsys):
    pytest.importorskip("onnx")
    assert main(["inspect", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", str(model)]
    assert lines[-1].split() == ["runs", "here", "yes"]
    assert "  image: uint8 [N, 32, 32, 3]" in lines
    assert any(line.split() == ["input", "size", "32"] for line in lines)
    assert max(map(len, lines)) < 140


def test_json(model, capsys):
    assert main(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["runs_here"]) == ("onnx", True)


def test_reason_stands_last(tmp_path, capsys):
    path = tmp_path / "x.plan"
    path.write_bytes(b"a plan")
    assert main(["inspect", str(path)]) == 0
    *_, verdict, reason = capsys.readouterr().out.splitlines()
    assert verdict.split() == ["runs", "here", "no"]
    assert reason.startswith("reason ")
    assert "has no manifest" in reason


@pytest.mark.parametrize("content", [None, b"", b"hello"])
def test_errors(tmp_path, capsys, content):
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    assert main(["inspect", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
