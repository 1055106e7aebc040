"""The matrix of heatmap sizes and precisions, what is built again and what is not, and INT8 from a calibration."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from model_zoo import tiny_model

from keyposs_trt.engine import build as module
from keyposs_trt.engine.build import build_engine
from keyposs_trt.engine.gpu import Gpu
from keyposs_trt.engine.manifest import Manifest, check_machine, manifest_path, read_manifest
from keyposs_trt.errors import BuildError, InputError, ModelError, OutputError, UsageError
from keyposs_trt.graph.calibration_file import Calibration, network_sha256, write_calibration
from keyposs_trt.graph.placement import place
from keyposs_trt.graph.qdq import network_of
from keyposs_trt.models import at_heatmap

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.rtx
RTX: dict[str, Any] = {"backend": "tensorrt-rtx"}


def calibration_of(path: Path, value: float = 4.0) -> Calibration:
    model = onnx.load(path)
    ranges = dict.fromkeys(place(network_of(model).graph).tensors, value)
    return Calibration(path.stem, network_sha256(model), "mse", None, "pictures", 20, "0" * 64, ranges, tool="t", created="now")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-16.onnx and tiny-8.onnx with their calibrations, without decoders, which take most of a build."""
    folder = tmp_path_factory.mktemp("family")
    for size in (16, 8):
        path = tiny_model(folder / f"tiny-{size}.onnx", points=5, heatmap_size=size, input_size=32, decoder="none")
        write_calibration(calibration_of(path), folder / f"tiny-{size}.calibration.json")
    return folder


@pytest.fixture(scope="module")
def out(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    results = build_engine(family / "tiny.onnx", folder, precision=("fp32", "fp16", "int8"), heatmap=(16, 8), **RTX)
    assert [(r.error, r.skipped) for r in results] == [(None, False)] * 6
    return folder


def test_names_of_a_family():
    assert at_heatmap("face68", 16) == at_heatmap("face68-32", 16) == at_heatmap(None, 16) == "face68-16"
    assert at_heatmap("out/my-4.onnx", 8) == at_heatmap("out/my.onnx", 8) == "out/my-8.onnx"


def test_every_cell_is_there_and_is_what_it_says(out):
    plans = sorted(p.name for p in out.glob("*.plan"))
    assert plans == sorted(f"tiny-{s}_{p}_tensorrt-rtx.plan" for s in (16, 8) for p in ("fp32", "fp16", "int8"))
    for plan in out.glob("*.plan"):
        m = read_manifest(plan)
        assert m.precision_found == m.precision
        assert (m.calibration is not None) == (m.precision == "int8")
        assert m.layers["CONVOLUTION"].keys() <= ({"fp16"} if m.precision == "int8" else {m.precision})
    m = read_manifest(out / "tiny-8_int8_tensorrt-rtx.plan")
    assert (m.calibration["method"], m.calibration["samples"], m.calibration["excluded"]) == ("mse", 20, [])
    assert m.layers["QUANTIZE"] == {"int8": 1}
    assert "--calibration" in m.rebuild_command()


def test_nothing_is_built_twice(family, out, monkeypatch):
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    monkeypatch.setattr(module, "compile_plan", lambda *a: pytest.fail("built again"))
    results = build_engine(family / "tiny.onnx", out, precision=("fp32", "fp16", "int8"), heatmap=(16, 8), **RTX)
    assert [(r.error, r.skipped) for r in results] == [(None, True)] * 6
    assert all(r.manifest == read_manifest(r.plan) for r in results)
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == before


@pytest.mark.parametrize(
    "change", ["force", "batch", "gpu", "workspace", "model", "ranges", "plan cut", "manifest cut", "manifest gone", "version", "tool"]
)
def test_what_changed_is_built_again(family, out, tmp_path, change, monkeypatch):
    folder, models = tmp_path / "out", tmp_path / "models"
    shutil.copytree(out, folder)
    shutil.copytree(family, models)
    plan = folder / "tiny-16_int8_tensorrt-rtx.plan"
    # The manifests name the first folder: as if it had been built from this one.
    text = manifest_path(plan).read_text().replace(str(family), str(models)).replace(str(family / "tiny-16.onnx"), "")
    manifest_path(plan).write_text(text)
    path = models / "tiny-16.onnx"
    arguments: dict[str, Any] = {"precision": "int8", **RTX}
    (unchanged,) = build_engine(path, folder, **arguments)
    assert unchanged.skipped
    more: dict[str, Any] = {
        "force": {"force": True},
        "batch": {"batch": (1, 2, 4)},
        "gpu": {"gpu": "sm86"},
        "workspace": {"workspace": 1 << 28},
    }
    if change == "model":
        model = onnx.load(path)
        model.producer_name = "another"
        onnx.save(model, path)
    elif change == "ranges":
        write_calibration(calibration_of(path, 5.0), models / "tiny-16.calibration.json")
    elif change == "plan cut":
        plan.write_bytes(plan.read_bytes()[:-1])
    elif change == "manifest cut":
        manifest_path(plan).write_text(manifest_path(plan).read_text()[:-200])
    elif change == "manifest gone":
        manifest_path(plan).unlink()
    elif change in ("version", "tool"):
        key = {"version": "runtime_version", "tool": "tool"}[change]
        manifest_path(plan).write_text(json.dumps({**json.loads(manifest_path(plan).read_text()), key: "1.0"}))
    (result,) = build_engine(path, folder, **arguments, **more.get(change, {}))
    assert (result.error, result.skipped) == (None, False)
    assert read_manifest(plan) == result.manifest


def test_a_size_that_is_not_there_fails_alone(family, tmp_path):
    results = build_engine(family / "tiny-16.onnx", tmp_path, precision="fp16", heatmap=(64, 16), **RTX)
    assert [isinstance(r.error, ModelError) for r in results] == [True, False]
    assert "tiny-64.onnx" in str(results[0].error)
    assert results[1].plan.is_file()


def test_progress_names_the_model(family, tmp_path):
    seen: list[str] = []
    build_engine(family / "tiny.onnx", tmp_path, precision="fp16", heatmap=(16, 8), progress=lambda name, *_: seen.append(name), **RTX)
    assert set(seen) == {"tiny-16 fp16", "tiny-8 fp16"}


def test_int8_without_ranges_says_how_to_measure_them(family, tmp_path):
    path = tmp_path / "alone.onnx"
    shutil.copy(family / "tiny-16.onnx", path)
    (result,) = build_engine(path, tmp_path, precision="int8", **RTX)
    assert isinstance(result.error, BuildError)
    assert f"keyposs-trt calibrate {path} --data IMAGES" in str(result.error)
    (given,) = build_engine(path, tmp_path, precision="int8", calibration=family / "tiny-16.calibration.json", **RTX)
    assert given.error is None


def test_ranges_of_another_network_are_refused(family, tmp_path):
    (result,) = build_engine(family / "tiny-8.onnx", tmp_path, precision="int8", calibration=family / "tiny-16.calibration.json", **RTX)
    assert isinstance(result.error, ModelError)
    assert "is of another network" in str(result.error)
    with pytest.raises(InputError):
        build_engine(family / "tiny-8.onnx", tmp_path, precision="int8", calibration=tmp_path / "nothing.json", **RTX)
    with pytest.raises(UsageError, match="A calibration is of one model"):
        build_engine(family / "tiny-8.onnx", tmp_path, heatmap=(8, 16), calibration=family / "tiny-16.calibration.json", **RTX)
    with pytest.raises(UsageError, match="No heatmap size"):
        build_engine(family / "tiny-8.onnx", tmp_path, heatmap=(), **RTX)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights_are_refused(family, tmp_path, precision, value):
    model = onnx.load(family / "tiny-16.onnx")
    for weight in model.graph.initializer:
        if weight.name == "rows.weight":
            values = onnx.numpy_helper.to_array(weight).copy()
            values.flat[3] = value
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    (result,) = build_engine(path, tmp_path / "out", precision=precision, **RTX)
    assert isinstance(result.error, BuildError)
    assert "'rows.weight'" in str(result.error)
    assert "no numbers" in str(result.error)
    assert list((tmp_path / "out").iterdir()) == []


def test_accuracy_goes_into_the_manifest(family, tmp_path):
    def measure(model: Any, graph: Any) -> dict[str, Any]:
        assert not any(n.op_type == "QuantizeLinear" for n in model.graph.node)
        assert any(n.op_type == "QuantizeLinear" for n in graph.graph.node)
        return {"nme": 0.03}

    (first,) = build_engine(family / "tiny-16.onnx", tmp_path, precision="int8", **RTX)
    assert first.manifest.measured is None
    (second,) = build_engine(family / "tiny-16.onnx", tmp_path, precision="int8", measure=measure, **RTX)
    assert (second.skipped, read_manifest(second.plan).measured) == (False, {"nme": 0.03})
    (third,) = build_engine(family / "tiny-16.onnx", tmp_path, precision="int8", measure=measure, **RTX)
    assert third.skipped


def test_full_disk(family, tmp_path, monkeypatch):
    """No space for the first plan: said, nothing half-written, and the other engine is built once there is room."""
    real, full = type(tmp_path).write_bytes, [True]

    def write(self: Path, data: bytes) -> int:
        if full and full.pop():
            real(self, data[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, data)

    monkeypatch.setattr(type(tmp_path), "write_bytes", write)
    first, second = build_engine(family / "tiny-16.onnx", tmp_path, precision=("fp32", "fp16"), **RTX)
    assert isinstance(first.error, OutputError)
    assert "No space left on device" in str(first.error)
    assert second.error is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny-16_fp16_tensorrt-rtx.plan", "tiny-16_fp16_tensorrt-rtx.plan.json"]


def test_a_plan_that_the_system_cuts_off(family, tmp_path):
    """A process that may write no more than 16 KB a file, as with a quota: the operating system itself stops the plan."""
    script = (
        "import resource, sys\n"
        "from keyposs_trt.engine.build import build_engine\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))\n"
        "(found,) = build_engine(sys.argv[1], sys.argv[2], precision='fp32', backend='tensorrt-rtx')\n"
        "print(type(found.error).__name__, found.error)\n"
    )
    command = [sys.executable, "-c", script, str(family / "tiny-16.onnx"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("OutputError ")
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_killed_in_the_middle_of_a_build(family, tmp_path):
    """SIGKILL while TensorRT builds the second engine: the first is whole, the second is not there, and the same command ends the work."""
    script = (
        "import os, signal, sys\n"
        "from keyposs_trt.engine import compile as module\n"
        "from keyposs_trt.engine.build import build_engine\n"
        "kill = sys.argv[3] == 'kill'\n"
        "def watch(name, phase, done, total):\n"
        "    if kill and 'fp16' in name and total and done: os.kill(os.getpid(), signal.SIGKILL)\n"
        "found = build_engine(sys.argv[1], sys.argv[2], backend='tensorrt-rtx', progress=watch)\n"
        "print([r.skipped for r in found])\n"
    )

    def run(how: str) -> Any:
        command = [sys.executable, "-c", script, str(family / "tiny-16.onnx"), str(tmp_path), how]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert run("kill").returncode == -signal.SIGKILL
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny-16_fp32_tensorrt-rtx.plan", "tiny-16_fp32_tensorrt-rtx.plan.json"]
    done = run("on")
    assert done.stdout.strip() == "[True, False]"
    assert len(list(tmp_path.glob("*.plan"))) == 2


def test_compatible_plans_run_on_more(out):
    m = read_manifest(out / "tiny-8_fp16_tensorrt-rtx.plan")
    plain = replace(m, runtime="tensorrt", runtime_version="10.3.0.26", targets=("sm86",))
    ada = Gpu("RTX 4070", (8, 9))
    for version, gpu in (("10.9.0.34", None), ("10.3.0.26", ada)):
        with pytest.raises(ModelError):
            check_machine("p", plain, version, gpu)
    both = replace(plain, compatibility=("hardware", "version"))
    check_machine("p", both, "10.9.0.34", ada)
    with pytest.raises(ModelError):
        check_machine("p", both, "10.2.0", ada)  # not older
    with pytest.raises(ModelError):
        check_machine("p", both, "10.3.0.26", Gpu("RTX 2080", (7, 5)))
    assert "--compatible hardware version" in both.rebuild_command()
    assert Manifest.from_json(both.to_json(), "m") == both


def test_old_manifests_are_read(out):
    path = manifest_path(out / "tiny-8_fp16_tensorrt-rtx.plan")
    values = json.loads(path.read_text())
    for key in ("plugin", "calibration", "measured", "engine_types", "compatibility"):
        values.pop(key)
    found = Manifest.from_json(json.dumps(values), path)
    assert (found.calibration, found.measured, found.engine_types, found.compatibility) == (None, None, None, ())


@pytest.mark.parametrize(
    ("key", "value"), [("compatibility", ["all"]), ("engine_types", {"int8": "2"}), ("calibration", [1]), ("measured", 3)]
)
def test_new_keys_are_checked(out, key, value):
    path = manifest_path(out / "tiny-8_fp16_tensorrt-rtx.plan")
    with pytest.raises(ModelError, match="is damaged"):
        Manifest.from_json(json.dumps({**json.loads(path.read_text()), key: value}), path)
