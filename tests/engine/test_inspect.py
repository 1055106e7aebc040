from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_zoo import heatmap_network, tiny_model, tiny_spec

from keyposs_trt.engine import manifest as manifest_module
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.inspect import inspect_file
from keyposs_trt.engine.manifest import Manifest, manifest_path, write_plan
from keyposs_trt.engine.runner import open_runner
from keyposs_trt.errors import BackendError, InputError, ModelError

PLAN = b"vtrt\0\0\0\0" + bytes(16) + bytes([1, 7, 1, 116]) + bytes(100)


def explain(path: Path) -> dict[str, Any]:
    """The explanation, which must survive JSON unchanged but for tuples."""
    found = inspect_file(path)
    json.dumps(found)
    assert found["file"] == str(path)
    assert found["bytes"] == path.stat().st_size
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("inspect") / "tiny.onnx", points=5, heatmap_size=16, input_size=32)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan for sm86 on a machine with a fitting runtime and no GPU."""

    class Runtime:
        version = "1.7.1.116"

    monkeypatch.setattr(manifest_module, "load_backend", lambda name: Runtime)
    set_gpu(monkeypatch, None)
    path = tmp_path / "tiny_fp16_tensorrt-rtx.plan"
    values: dict[str, Any] = {
        "model": "face68-32", "onnx_sha256": "", "plan": path.name, "plan_sha256": hashlib.sha256(PLAN).hexdigest(),
        "plan_bytes": len(PLAN), "spec": tiny_spec(), "precision": "fp16", "precision_found": "fp16", "layers": {},
        "runtime": "tensorrt-rtx", "runtime_version": "1.7.1.116", "cuda": None, "platform": "linux-x86_64", "gpu": None,
        "targets": ("sm86",), "batch": (1, 4, 16), "workspace": None, "tool": "", "created": "", "build_seconds": 1.0,
    }  # fmt: skip
    write_plan(path, PLAN, Manifest(**values))
    return path


def set_gpu(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None) -> None:
    driver = Driver("13.0", (gpu,)) if gpu else Driver(None, (), "no NVIDIA driver")
    monkeypatch.setattr(manifest_module, "query_driver", lambda: driver)
    monkeypatch.setattr(manifest_module, "current_gpu", lambda: gpu)


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


def test_plan_without_a_gpu(plan):
    found = explain(plan)
    assert (found["kind"], found["written_by"], found["runs_here"]) == ("plan", "1.7.1.116", False)
    assert found["manifest"]["precision"] == "fp16"
    assert "needs an NVIDIA GPU" in found["reason"]


def test_plan_that_needs_a_plugin(plan, monkeypatch):
    set_gpu(monkeypatch, Gpu("NVIDIA GeForce RTX 3060", (8, 6)))
    values = json.loads(manifest_path(plan).read_text())
    values["spec"]["decoder"] = "plugin"
    values["plugin"] = {"name": "KeyPosSMultilateration", "version": "1", "sha256": ""}
    manifest_path(plan).write_text(json.dumps(values))
    monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", "/nowhere/plugin.so")
    found = explain(plan)
    assert found["manifest"]["plugin"] == values["plugin"]
    assert not found["runs_here"]
    assert "/nowhere/plugin.so" in found["reason"]


def test_plan_that_runs_here(plan, monkeypatch):
    set_gpu(monkeypatch, Gpu("NVIDIA GeForce RTX 3060", (8, 6)))
    found = explain(plan)
    assert (found["runs_here"], "reason" in found) == (True, False)


def test_plan_for_another_gpu(plan, monkeypatch):
    set_gpu(monkeypatch, Gpu("NVIDIA GeForce RTX 4070", (8, 9)))
    assert "was built for sm86" in explain(plan)["reason"]


@pytest.mark.parametrize("name", ["tiny.trt", "tiny.bin"])
def test_plan_under_a_name_no_runner_takes(plan, monkeypatch, name):
    set_gpu(monkeypatch, Gpu("NVIDIA GeForce RTX 3060", (8, 6)))
    values = json.loads(manifest_path(plan).read_text())
    path = plan.rename(plan.with_name(name))
    manifest_path(plan).unlink()
    manifest_path(path).write_text(json.dumps({**values, "plan": name}))
    for file, kind in ((path, "plan"), (manifest_path(path), "manifest")):
        found = explain(file)
        assert (found["kind"], found["manifest"]["precision"], found["runs_here"]) == (kind, "fp16", False)
        assert found["reason"] == f"The name of an engine ends in .plan or .engine; rename '{name}', and its manifest with it."
    with pytest.raises(ModelError, match="is not a model this tool runs"):
        open_runner(path)


def test_damaged_plan_is_still_explained(plan):
    plan.write_bytes(PLAN[:-1])
    found = explain(plan)
    assert found["manifest"]["precision"] == "fp16"
    assert "127 bytes, its manifest says 128" in found["reason"]


def test_plan_without_manifest(plan):
    manifest_path(plan).unlink()
    found = explain(plan)
    assert (found["kind"], found["manifest"], found["written_by"]) == ("plan", None, "1.7.1.116")
    assert "no manifest" in found["reason"]


def test_plan_of_another_header_is_known_by_its_suffix(tmp_path):
    path = tmp_path / "old.engine"
    path.write_bytes(b"something else")
    assert explain(path)["written_by"] is None


def test_manifest(plan):
    found = explain(manifest_path(plan))
    assert (found["kind"], found["plan"]) == ("manifest", str(plan))
    assert "needs an NVIDIA GPU" in found["reason"]


@pytest.mark.parametrize("name", ["", ".", "..", "../x.plan", "/x.plan"])
def test_manifest_of_a_plan_elsewhere(plan, name):
    values = json.loads(manifest_path(plan).read_text())
    manifest_path(plan).write_text(json.dumps({**values, "plan": name}))
    with pytest.raises(ModelError, match=r"is damaged .*not a file name"):
        inspect_file(manifest_path(plan))


def test_manifest_without_its_plan(plan):
    plan.unlink()
    assert "is missing" in explain(manifest_path(plan))["reason"]


def test_renamed_manifest(plan):
    path = manifest_path(plan).rename(plan.with_name("renamed.json"))
    assert f"beside its plan as '{plan.name}.json'" in explain(path)["reason"]


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
