"""ONNX Runtime sessions: bad files and settings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnxruntime
import pytest
from model_zoo import tiny_model

from keyposs_trt.engine.session import open_session
from keyposs_trt.errors import ModelError

BLAZEFACE = Path(__file__).parents[2] / "keyposs_trt" / "detection" / "data" / "blazeface_back_256.onnx"


def test_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    open_session(BLAZEFACE)  # a graph that ONNX Runtime warns of
    assert capfd.readouterr() == ("", "")


def test_threads() -> None:
    assert open_session(BLAZEFACE, threads=1).get_session_options().intra_op_num_threads == 1


def test_gpu_is_taken_only_where_it_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, options, providers: seen.append(providers))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    open_session(BLAZEFACE, gpu=True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    open_session(BLAZEFACE, gpu=True)
    open_session(BLAZEFACE)
    assert seen == [["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]]


def test_missing_file() -> None:
    with pytest.raises(ModelError, match=r"There is no model 'nowhere\.onnx'"):
        open_session("nowhere.onnx")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.touch()
    with pytest.raises(ModelError, match="is empty; copy or export it again"):
        open_session(path)


@pytest.mark.parametrize("size", [1, 100, 300_000])
def test_truncated_file(tmp_path: Path, size: int, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(BLAZEFACE.read_bytes()[:size])
    with pytest.raises(ModelError) as caught:
        open_session(path)
    message = str(caught.value)
    assert message.startswith(f"'{path}' cannot be loaded as an ONNX model (")
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.onnx")
    shutil.copy(tiny_model(tmp_path / "tiny.onnx"), path)
    with pytest.raises(ModelError, match="not UTF-8"):
        open_session(path)
