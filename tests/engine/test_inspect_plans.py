"""Plans and their manifests explained: what they are, and whether they run here."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from inspect_tools import explain
from model_zoo import tiny_spec

from keyposs_trt.engine import manifest as manifest_module
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.inspect import inspect_file
from keyposs_trt.engine.manifest import Manifest, manifest_path, write_plan
from keyposs_trt.engine.runner import open_runner
from keyposs_trt.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


PLAN = b"vtrt\0\0\0\0" + bytes(16) + bytes([1, 7, 1, 116]) + bytes(100)


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
