"""Files of weights explained: training checkpoints, bare weights and safetensors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_tools import explain

from keyposs_trt.engine.inspect import inspect_file
from keyposs_trt.errors import BackendError, ModelError


@pytest.mark.parametrize("name", ["last.ckpt", "last.whatever"])
def test_training_checkpoint(tmp_path, name):
    torch = pytest.importorskip("torch")
    path = tmp_path / name
    recipe = {"scheme": "300w", "network": {"input_size": 128}}
    weights = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.float16)}
    torch.save({"epoch": 7, "global_step": 123, "hyper_parameters": {"recipe": recipe}, "state_dict": weights}, path)
    found = explain(path)
    assert (found["kind"], found["recipe"], found["epoch"], found["global_step"]) == ("checkpoint", recipe, 7, 123)
    assert (found["tensors"], found["parameters"], found["stored_as"]) == (2, 10, ["float16", "float32"])
    assert f"keyposs-trt export {path}" in found["reason"]


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": None, "hyper_parameters": {"recipe": {}}},
        {"state_dict": [1], "hyper_parameters": {"recipe": {}}},
        {"state_dict": {}, "hyper_parameters": {"recipe": None}},
        {"state_dict": {}, "hyper_parameters": {"recipe": "face68-32"}},
    ],
)
def test_checkpoint_with_other_things_in_it(tmp_path, content):
    torch = pytest.importorskip("torch")
    path = tmp_path / "odd.ckpt"
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"odd\.ckpt' is laid out as a checkpoint, but its state_dict or recipe is not a dict"):
        inspect_file(path)


def test_bare_weights(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(2, 3)}, path)
    found = explain(path)
    assert (found["recipe"], found["parameters"]) == (None, 6)
    assert "without a recipe" in found["reason"]


class Evil:
    """Pickles to a call."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_checkpoint_with_code_is_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "x": Evil(tmp_path / "ran")}, path)
    with pytest.raises(ModelError, match="could run code"):
        inspect_file(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"PK\x03\x04 not really a zip", b"\x80\x02not a pickle"])
def test_damaged_checkpoint(tmp_path, content):
    pytest.importorskip("torch")
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"last\.ckpt"):
        inspect_file(path)


def test_truncated_checkpoint(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match="damaged"):
        inspect_file(path)


def test_checkpoint_without_torch(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match=r"needs torch; install it with: pip install torch$"):
        inspect_file(path)


def safetensors(**header: Any) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def test_safetensors_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "w.safetensors"
    entry = {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}
    path.write_bytes(safetensors(__metadata__={"a": "b"}, weight=entry) + np.zeros(6, np.float16).tobytes())
    found = explain(path)
    assert (found["kind"], found["metadata"], found["stored_as"]) == ("safetensors", {"a": "b"}, ["f16"])
    assert (found["tensors"], found["parameters"]) == (1, 6)


@pytest.mark.parametrize(
    "content",
    [
        b"short",
        (1 << 62).to_bytes(8, "little") + b"{}",
        (5).to_bytes(8, "little") + b"junk!",
        safetensors(weight={"dtype": "F16", "shape": [6], "data_offsets": [0, 12]}) + bytes(11),
        safetensors(weight=7),
        safetensors(weight={"dtype": "F16", "shape": 6, "data_offsets": []}),
    ],
)
def test_damaged_safetensors(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        inspect_file(path)
