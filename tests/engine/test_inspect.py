"""ONNX models and calibrations explained, and files that nothing here can explain."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from inspect_tools import explain
from model_zoo import heatmap_network, tiny_model

from keyposs_trt.engine.inspect import inspect_file
from keyposs_trt.errors import InputError, ModelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("inspect") / "tiny.onnx", points=5, heatmap_size=16, input_size=32)


def test_onnx(model):
    pytest.importorskip("onnx")
    found = explain(model)
    assert found["kind"] == "onnx"
    assert found["spec"]["points"] == 5
    assert found["inputs"] == [{"name": "image", "type": "uint8", "shape": ["N", 32, 32, 3]}]
    assert {o["name"] for o in found["outputs"]} == {"landmarks", "scores", "covariance"}
    assert found["operators"]["Conv"] == 3
    assert found["precision"] == "fp32"
    assert found["parameters"] > 1000
    assert (found["runs_here"], "reason" in found) == (True, False)


def test_fp16_storage_is_not_fp16_arithmetic(model, tmp_path):
    onnx = pytest.importorskip("onnx")
    from keyposs_trt.graph import store_weights_fp16, to_fp16

    stored, cast = tmp_path / "stored.onnx", tmp_path / "cast.onnx"
    onnx.save(store_weights_fp16(onnx.load(model)), stored)
    onnx.save(to_fp16(onnx.load(model)), cast)
    assert explain(stored)["precision"] == "fp32"
    assert "fp16" in explain(stored)["stored_as"]
    assert explain(cast)["precision"] == "fp16"
    assert explain(stored)["runs_here"]
    assert explain(cast)["runs_here"]


def test_foreign_onnx_is_explained_and_does_not_run(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "foreign.bin"
    onnx.save(heatmap_network(points=2, heatmap_size=8, input_size=16), path)
    found = explain(path)
    assert (found["kind"], found["spec"], found["runs_here"]) == ("onnx", None, False)
    assert "without keyposs metadata" in found["reason"]
    assert found["operators"]["Conv"] == 3


def test_model_with_the_plugin_is_described_without_running(model, tmp_path):
    onnx = pytest.importorskip("onnx")
    from keyposs_trt.graph import change_decoder

    path = tmp_path / "p.onnx"
    onnx.save(change_decoder(onnx.load(model), "plugin"), path)
    found = explain(path)
    assert (found["kind"], found["spec"]["decoder"], found["runs_here"]) == ("onnx", "plugin", False)
    assert found["operators"]["KeyPosSMultilateration"] == 1
    assert found["opset"] == {"ai.onnx": 17, "trt.plugins": 1}
    assert (found["precision"], len(found["outputs"])) == ("fp32", 3)
    assert "--decoder onnx" in found["reason"]


def test_onnx_without_the_onnx_package(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    found = explain(model)
    assert found["note"].endswith("pip install onnx")
    assert (found["spec"]["points"], found["runs_here"]) == (5, True)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("none.onnx", None, InputError, "There is no file"),
        ("empty.onnx", b"", InputError, "is empty"),
        ("photo.jpg", b"\xff\xd8\xff\xe0 a photograph", ModelError, "nothing this toolkit knows"),
        ("notes.txt", b"hello", ModelError, "nothing this toolkit knows"),
        ("bad.onnx", b"hello", ModelError, "no ONNX model"),
        ("ours.json", b'{"a": 1}', ModelError, "no engine manifest"),
        ("broken.json", b"{", ModelError, "not JSON"),
        ("deep.json", b'{"a":' * 100_000, ModelError, "not JSON"),
        ("text.trt", b"hello", ModelError, "nothing this toolkit knows"),
    ],
)
def test_anything_else(tmp_path, name, content, error, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=words) as e:
        inspect_file(path)
    assert name in str(e.value)


def test_folder(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        inspect_file(tmp_path)


def test_a_calibration_is_explained(tmp_path):
    from keyposs_trt.graph.calibration_file import Calibration, write_calibration

    file = tmp_path / "face.calibration.json"
    write_calibration(Calibration("face.onnx", "a" * 64, "mse", None, "photos", 256, "b" * 64, {"x": 1.0}, tool="t", created="now"), file)
    found = inspect_file(file)
    assert (found["kind"], found["method"], found["samples"], found["ranges"]) == ("calibration", "mse", 256, 1)
    assert f"keyposs-trt build face.onnx --precision int8 --calibration {file}" in found["reason"]
