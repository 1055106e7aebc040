from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from model_zoo import tiny_spec

from keyposs_trt.engine import manifest as module
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.manifest import Manifest, check_file, check_machine, manifest_path, read_manifest, this_platform, write_plan
from keyposs_trt.errors import BackendError, InputError, ModelError, OutputError

PLAN = bytes(range(256)) * 4
SPEC = asdict(tiny_spec())
PLUGIN = {"name": "KeyPosSMultilateration", "version": "1", "sha256": "0" * 64}
ADA = Gpu("NVIDIA GeForce RTX 4070", (8, 9))


def make(**more: Any) -> Manifest:
    values: dict[str, Any] = {
        "model": "face68-32",
        "onnx_sha256": "0" * 64,
        "plan": "tiny_fp16_tensorrt-rtx.plan",
        "plan_sha256": hashlib.sha256(PLAN).hexdigest(),
        "plan_bytes": len(PLAN),
        "spec": tiny_spec(),
        "precision": "fp16",
        "precision_found": "fp16",
        "layers": {"CONVOLUTION": {"fp16": 3}},
        "runtime": "tensorrt-rtx",
        "runtime_version": "1.7.1.116",
        "cuda": None,
        "platform": "linux-x86_64",
        "gpu": None,
        "targets": ("sm86", "sm89"),
        "batch": (1, 4, 16),
        "workspace": None,
        "tool": "keyposs-trt 0.1.0",
        "created": "2026-01-02T03:04:05+00:00",
        "build_seconds": 0.5,
    }
    return Manifest(**{**values, **more})


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_fp16_tensorrt-rtx.plan"
    write_plan(path, PLAN, make())
    return path


def test_round_trip(plan):
    assert read_manifest(plan) == make()
    assert plan.read_bytes() == PLAN
    assert sorted(p.name for p in plan.parent.iterdir()) == [plan.name, plan.name + ".json"]


def test_every_key_is_documented(plan):
    text = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text()
    keys = json.loads(manifest_path(plan).read_text())
    assert set(keys) == {f.name for f in fields(Manifest)} | {"rebuild"}
    assert [k for k in keys if f"`{k}`" not in text] == []


def test_rebuild_command_names_everything_and_quotes(plan):
    command = json.loads(manifest_path(plan).read_text())["rebuild"]
    assert command == (
        "keyposs-trt build face68-32 --precision fp16 --backend tensorrt-rtx --gpu sm86 sm89 --batch 1:4:16 -o " + str(plan.parent)
    )
    odd = make(model="my face.onnx", runtime="tensorrt", workspace=64 << 20)
    assert odd.rebuild_command() == ("keyposs-trt build 'my face.onnx' --precision fp16 --backend tensorrt --batch 1:4:16 --workspace 64")


def test_missing_manifest(plan):
    manifest_path(plan).unlink()
    with pytest.raises(ModelError, match=r"has no manifest 'tiny_fp16_tensorrt-rtx\.plan\.json' beside it; copy both"):
        read_manifest(plan)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\udcff", "not JSON"),
        ("[]", "no engine manifest"),
        ('{"a": 1}', "no engine manifest"),
        ('{"manifest_version": 2}', "version 2, this keyposs-trt reads version 1"),
        ('{"manifest_version": 1}', "lacks 'model'"),
    ],
)
def test_foreign_or_broken_manifest(plan, text, words):
    manifest_path(plan).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=words):
        read_manifest(plan)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch", [1, 2]),
        ("batch", "1:4:16"),
        ("batch", [0, 4, 16]),
        ("targets", "sm86"),
        ("runtime", "onnxruntime"),
        ("plan_sha256", 7),
        ("spec", {"name": "x"}),
        ("spec", None),
        ("spec", "points"),
        ("spec", {**SPEC, "format_version": "7"}),
        ("spec", {**SPEC, "format_version": 1}),
        ("spec", {**SPEC, "points": 0}),
        ("spec", {**SPEC, "points": 68.5}),
        ("spec", {**SPEC, "decoder": "none", "decoder_parameters": None}),
        ("spec", {**SPEC, "more": 1}),
        ("plan", ""),
        ("plan", "../x.plan"),
        ("plan_bytes", "1024"),
        ("plan_bytes", None),
        ("workspace", "abc"),
        ("workspace", 1.5),
        ("workspace", -1),
        ("layers", None),
        ("layers", {"CONVOLUTION": 3}),
        ("layers", {"CONVOLUTION": {"fp16": "3"}}),
        ("cuda", 13.0),
        ("gpu", ["Orin"]),
        ("created", 2026),
        ("build_seconds", "fast"),
        ("batch", [1, 4, True]),
        ("targets", []),
        ("targets", [86]),
        ("plugin", "yes"),
        ("plugin", {"name": "x"}),
        ("plugin", {**PLUGIN, "version": 1}),
        ("spec", {**SPEC, "decoder": "plugin"}),
    ],
)
def test_edited_manifest(plan, key, value):
    values = json.loads(make().to_json())
    manifest_path(plan).write_text(json.dumps({**values, key: value}))
    with pytest.raises(ModelError, match=r"The manifest '.*plan\.json' is damaged \(.*\); build the engine again") as e:
        read_manifest(plan)
    assert "\n" not in str(e.value)


def test_fields_that_may_be_null_or_set(plan):
    for more in ({}, {"cuda": "13.0", "gpu": "Orin", "workspace": 1 << 30, "build_seconds": 3}):
        write_plan(plan, PLAN, make(**more))
        assert read_manifest(plan) == make(**more)


def test_manifest_of_the_first_release_is_read(plan):
    """It has no key for the plugin, and a parameter of a decoder that this version does not have."""
    values = json.loads(make().to_json())
    del values["plugin"]
    values["spec"]["decoder_parameters"] = {"floor": 0.05, "prior": 0.02, "radius": 3}
    manifest_path(plan).write_text(json.dumps(values))
    assert read_manifest(plan) == make()


def test_plan_that_needs_a_plugin(plan, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "load_backend", lambda name: SimpleNamespace(version="1.7.1.116"))
    monkeypatch.setattr(module, "current_gpu", lambda: None)
    spec = tiny_spec(decoder="plugin")
    write_plan(plan, PLAN, make(spec=spec, plugin=PLUGIN))
    monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", str(tmp_path / "plugin.so"))
    with pytest.raises(BackendError, match=r"KEYPOSS_PLUGIN_LIBRARY names .*plugin\.so"):
        module.check(plan)
    (tmp_path / "plugin.so").touch()
    assert module.check(plan) == make(spec=spec, plugin=PLUGIN)
    write_plan(plan, PLAN, make(spec=spec, plugin={**PLUGIN, "version": "2"}))
    with pytest.raises(
        ModelError, match=r"needs the plugin KeyPosSMultilateration 2, this keyposs-trt has KeyPosSMultilateration 1; build it"
    ):
        module.check(plan)


def test_remedies_without_a_gpu(plan, monkeypatch):
    monkeypatch.setattr(module, "query_driver", lambda: Driver(None, (), "no driver"))
    with pytest.raises(BackendError, match="run SOURCE --model face68-32 --backend onnxruntime"):
        module.require_gpu(plan, make())
    with pytest.raises(BackendError, match="keyposs-trt export face68-32 --decoder onnx"):
        module.require_gpu(plan, make(spec=tiny_spec(decoder="plugin"), plugin=PLUGIN))


def test_whole_plan_passes(plan):
    assert check_file(plan, make()) == PLAN


def test_truncated_plan(plan):
    plan.write_bytes(PLAN[:-1])
    with pytest.raises(ModelError, match=r"has 1023 bytes, its manifest says 1024; .*keyposs-trt build face68-32 .*--precision fp16"):
        check_file(plan, make())


def test_flipped_bit(plan):
    plan.write_bytes(bytes([PLAN[0] ^ 1]) + PLAN[1:])
    with pytest.raises(ModelError, match=r"not the one its manifest describes .*keyposs-trt build face68-32"):
        check_file(plan, make())


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_no_plan(plan, damage):
    plan.unlink()
    if damage == "empty":
        plan.touch()
    with pytest.raises(InputError, match="engine"):
        check_file(plan, make())


def test_fitting_machine_passes():
    check_machine("a.plan", make(), "1.7.1.116", ADA)
    check_machine("a.plan", make(), "1.7.1.116", None)


def test_other_version_names_both_and_the_command():
    with pytest.raises(ModelError) as e:
        check_machine("out/a.plan", make(), "1.8.0.1", ADA)
    text = str(e.value)
    assert "built with TensorRT-RTX 1.7.1.116, this machine has TensorRT-RTX 1.8.0.1" in text
    assert text.endswith(make().rebuild_command("out"))


def test_other_gpu_names_both_and_the_command_for_it():
    with pytest.raises(ModelError) as e:
        check_machine("out/a.plan", make(targets=("sm86",)), "1.7.1.116", ADA)
    text = str(e.value)
    assert "was built for sm86, the GPU here is NVIDIA GeForce RTX 4070 (sm89)" in text
    assert text.endswith("--gpu sm89 --batch 1:4:16 -o out")


def test_only_tensorrt_plans_are_bound_to_their_platform():
    check_machine("a.plan", make(platform="win32-amd64"), "1.7.1.116", ADA)
    elsewhere = make(platform="linux-nowhere", runtime="tensorrt", runtime_version="10.3.0")
    with pytest.raises(ModelError, match=f"built on linux-nowhere, this machine is {this_platform()}; .*--backend tensorrt "):
        check_machine("a.plan", elsewhere, "10.3.0", ADA)


def test_open_plan_asks_the_installed_runtime(plan, monkeypatch):
    class Runtime:
        version = "1.9.9"

    monkeypatch.setattr(module, "load_backend", lambda name: {"tensorrt-rtx": Runtime}[name])
    monkeypatch.setattr(module, "current_gpu", lambda: None)
    with pytest.raises(ModelError, match=r"1\.7\.1\.116.*1\.9\.9"):
        module.check(plan)
    Runtime.version = "1.7.1.116"
    assert module.check(plan) == make()
    assert module.open_plan(plan) == (make(), PLAN)


def test_old_plan_survives_a_failed_write(plan, monkeypatch):
    def fail(self: Manifest, folder: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Manifest, "to_json", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_plan(plan, b"new", replace(make(), plan_bytes=3))
    assert plan.read_bytes() == PLAN
    assert len(list(plan.parent.iterdir())) == 2
