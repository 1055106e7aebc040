from __future__ import annotations

import builtins
import json
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jetson_trees import machine, orin_nano

from keyposs_trt import doctor
from keyposs_trt.cli.main import main
from keyposs_trt.doctor import MISSING, OK, OPTIONAL, Finding, cpu_path_works, diagnose, to_json
from keyposs_trt.engine import cuda_device, native_library, plugin_library, preprocess_library
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.versions import Backend
from keyposs_trt.errors import BackendError, ModelError
from keyposs_trt.jetson import describe_release

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ORIN = Driver("12.6", (Gpu("Orin", (8, 7)),))
NO_GPU = Driver(None, (), "no NVIDIA driver")


@pytest.fixture
def findings() -> dict[str, Finding]:
    return {f.part: f for f in diagnose()}


def test_every_part_is_named_and_what_is_absent_has_a_remedy(findings):
    assert set(findings) == {
        "Python", "Platform", "OpenCV", "ONNX Runtime", "Landmark model", "Face detector", "GStreamer", "CUDA driver", "CUDA compiler",
        "TensorRT", "TensorRT-RTX", "cuda-python", "ONNX", "PyTorch", "Plugin",
    }  # fmt: skip
    for f in findings.values():
        assert f.state in (OK, MISSING, OPTIONAL)
        assert f.found
        assert bool(f.remedy) == (f.state != OK)
        assert "\n" not in f.found + f.remedy


def test_versions_of_this_environment(findings):
    import cv2
    import onnxruntime

    assert findings["OpenCV"].found.startswith(cv2.__version__)
    assert findings["ONNX Runtime"].found.startswith(onnxruntime.__version__)
    assert "CPU" in findings["ONNX Runtime"].found
    assert (findings["OpenCV"].state, findings["ONNX Runtime"].state, findings["Face detector"].state) == (OK, OK, OK)


def test_torch_is_not_imported():
    import subprocess

    code = "import sys; from keyposs_trt.doctor import diagnose; diagnose(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_needed_parts_decide():
    fine = [Finding("a", OK, "1"), Finding("b", OPTIONAL, "none", "get it")]
    assert cpu_path_works(fine)
    assert not cpu_path_works([*fine, Finding("c", MISSING, "none", "get it")])
    found = json.loads(to_json(fine))
    assert found["cpu_path_works"] is True
    assert found["parts"][1] == {"part": "b", "state": "optional", "found": "none", "remedy": "get it"}


@pytest.mark.parametrize(
    ("name", "check", "remedy"),
    [("cv2", doctor._opencv, "pip install opencv-python"), ("onnxruntime", doctor._onnxruntime, "pip install onnxruntime")],
)
def test_missing_runtime_package(monkeypatch, name, check, remedy):
    monkeypatch.setitem(sys.modules, name, None)
    assert (check().state, check().remedy) == (MISSING, remedy)


def test_opencv_that_misses_a_library(monkeypatch):
    real = builtins.__import__

    def fail(name: str, *rest: Any) -> Any:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fail)
    f = doctor._opencv()
    assert f.state == MISSING
    assert "opencv-python-headless" in f.remedy
    assert doctor._gstreamer().state == OPTIONAL


@pytest.mark.parametrize(("line", "state"), [("    GStreamer:      YES (1.20.3)", OK), ("    GStreamer:      NO", OPTIONAL)])
def test_gstreamer(monkeypatch, line, state):
    fake = ModuleType("cv2")
    fake.__dict__["getBuildInformation"] = lambda: f"  Video I/O:\n    FFMPEG:   YES\n{line}\n"
    monkeypatch.setitem(sys.modules, "cv2", fake)
    assert doctor._gstreamer().state == state


def test_onnxruntime_without_the_cpu(monkeypatch):
    fake = ModuleType("onnxruntime")
    fake.__dict__.update(__version__="1.0", get_available_providers=lambda: ["QNNExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    assert doctor._onnxruntime().state == MISSING


def test_missing_model(monkeypatch):
    def fail(name: object) -> None:
        raise ModelError("There is no model 'face68-32'.")

    monkeypatch.setattr("keyposs_trt.models.resolve", fail)
    f = doctor._model()
    assert (f.state, f.found) == (MISSING, "There is no model 'face68-32'.")
    assert f.remedy.endswith("pip install -e .")


def test_gpu():
    assert doctor._gpu(ORIN).found == "CUDA 12.6, Orin (compute capability 8.7)"
    assert (doctor._gpu(NO_GPU).state, doctor._gpu(NO_GPU).found) == (OPTIONAL, "no NVIDIA driver")


def test_tensorrt():
    trt = ModuleType("tensorrt")
    trt.__dict__["__version__"] = "10.3.0"
    assert doctor._tensorrt("tensorrt", Backend("tensorrt", trt), ORIN) == Finding("TensorRT", OK, "10.3.0")
    assert "cannot build here" in doctor._tensorrt("tensorrt", Backend("tensorrt", trt), NO_GPU).found
    assert "builds engines here" in doctor._tensorrt("tensorrt-rtx", Backend("tensorrt-rtx", trt), NO_GPU).found
    missing = doctor._tensorrt("tensorrt-rtx", BackendError("TensorRT-RTX is not installed: pip install x."), NO_GPU)
    assert (missing.state, missing.found) == (OPTIONAL, "TensorRT-RTX is not installed")
    assert "pip install 'tensorrt-rtx-cu13-bindings<2' 'tensorrt-rtx-cu13-libs<2'" in missing.remedy


def packages_of(extra: str) -> set[str]:
    """What an extra of pyproject.toml installs, by name."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    lines = tomllib.loads(text)["project"]["optional-dependencies"][extra]
    names = {re.split(r"[<>=;\[ ]", line, maxsplit=1)[0] for line in lines}
    others = [other for line in lines if line.startswith("keyposs-trt[") for other in line[len("keyposs-trt[") : -1].split(",")]
    return (names - {"keyposs-trt"}).union(*(packages_of(other) for other in others))


def test_remedies_name_the_packages_of_the_extras(monkeypatch):
    """Not the extras themselves: a package index need not know this package."""

    def fail(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", fail)
    monkeypatch.setattr(doctor, "installed_backends", lambda: dict.fromkeys(doctor.BACKENDS, BackendError("none: none")))
    remedies = {f.part: f.remedy for f in diagnose()}
    for part, extra, more in (("cuda-python", "gpu", set()), ("ONNX", "build", set()), ("PyTorch", "train", set()),
                              ("TensorRT-RTX", "rtx", {"onnx", "onnx-graphsurgeon"})):  # fmt: skip
        words = remedies[part].partition("pip install ")[2].partition(" (")[0]
        assert {re.split("[<>]", word)[0] for word in shlex.split(words)} | more == packages_of(extra)
    assert [r for r in remedies.values() if "keyposs-trt" in r] == []


def test_cuda_python_is_what_the_extra_asks_for():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    asked = tomllib.loads(text)["project"]["optional-dependencies"]["gpu"]
    assert shlex.split(cuda_device.INSTALL) == ["pip", "install", *asked]
    assert [line.partition(",")[0] for line in asked] == [f"{name}>={oldest}" for name, oldest in cuda_device.OLDEST.items()]


@pytest.mark.parametrize(
    ("core", "bindings", "state", "found"),
    [
        ("0.5.0", "12.6.2", OK, "cuda-core 0.5.0, cuda-bindings 12.6.2"),
        ("1.2.2", "13.5.0", OK, "cuda-core 1.2.2, cuda-bindings 13.5.0"),
        ("0.3.2", "13.5.0", OPTIONAL, "cuda-core 0.3.2 is older than 0.5, cuda-bindings 13.5.0"),
        ("0.5.0", "11.8.7", OPTIONAL, "cuda-core 0.5.0, cuda-bindings 11.8.7 is older than 12.6"),
        ("1.2.2", None, OPTIONAL, "cuda-core 1.2.2, cuda-bindings is not installed"),
        (None, "13.5.0", OPTIONAL, "cuda-core is not installed, cuda-bindings 13.5.0"),
    ],
)
def test_cuda_python(core, bindings, state, found, monkeypatch):
    real = metadata.version

    def version(name: str) -> str:
        number = {"cuda-core": core, "cuda-bindings": bindings}[name] if name.startswith("cuda-") else real(name)
        if number is None:
            raise metadata.PackageNotFoundError(name)
        return number

    monkeypatch.setattr(doctor.metadata, "version", version)
    f = next(f for f in diagnose() if f.part == "cuda-python")
    assert (f.state, f.found) == (state, found)
    assert f.remedy == ("" if state == OK else f"runs engines: {cuda_device.INSTALL}")


@pytest.mark.parametrize("verb", ["train", "export"])
def test_verbs_without_torch_name_the_packages(verb, tmp_path, monkeypatch, capsys):
    for name in [n for n in sys.modules if n.startswith("keyposs_trt.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "recipe"
    path.touch()
    assert main([verb, str(path)]) == 1
    assert capsys.readouterr().err.rstrip().endswith(f"install it with: pip install {doctor.TRAINING_PACKAGES}")


RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n"
DPKG = """\
Package: nvidia-jetson
Status: install ok installed
Version: 1.0

Package: nvidia-jetpack
Status: install ok installed
Maintainer: NVIDIA
Depends: a,
 b
Version: 6.2+b77

Package: zlib
Version: 9
"""


def test_jetson():
    assert describe_release("", DPKG) == ""
    assert describe_release(RELEASE, DPKG) == "Jetson Linux 36.4.3, JetPack 6.2"
    assert describe_release(RELEASE, "Package: nvidia-jetpack\nStatus: x\n\nPackage: zlib\nVersion: 9\n").endswith("not installed")
    assert describe_release("# strange", "").startswith("Jetson Linux, ")


def test_a_jetson_has_more_lines_below_the_others(tmp_path, monkeypatch, capsys):
    others = [f.part for f in diagnose()]
    board = machine(tmp_path, orin_nano())
    monkeypatch.setattr(doctor, "Machine", lambda: board)
    parts = [f.part for f in diagnose()]
    assert parts[: len(others)] == others
    assert {"Jetson", "JetPack", "Power mode", "Clocks", "System TensorRT", "Camera plugins", "Crop kernel"} <= set(parts[len(others) :])
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "Linux" in printed
    assert "Jetson Linux 36.4.3, JetPack 6.2" in printed
    assert re.search(
        r"^optional  Clocks +follow the load: CPU 730 to 1344 MHz, GPU 306 to 918 MHz\n +-> .*sudo jetson_clocks", printed, re.MULTILINE
    )


def test_crop_kernel(tmp_path, monkeypatch):
    monkeypatch.setenv(preprocess_library.VARIABLE, "/nowhere/libkeyposs_preprocess.so")
    f = doctor._crop_kernel()
    assert f.state == OPTIONAL
    assert "/nowhere/libkeyposs_preprocess.so" in f.found
    assert "docs/jetson.md" in f.remedy

    broken = tmp_path / preprocess_library.FILE
    broken.write_bytes(b"no library")
    monkeypatch.setenv(preprocess_library.VARIABLE, str(broken))
    assert "does not load" in doctor._crop_kernel().found


def test_plugin(tmp_path, monkeypatch):
    monkeypatch.setattr(native_library, "_PACKAGE", tmp_path)
    monkeypatch.setattr(native_library.sysconfig, "get_path", lambda _: str(tmp_path / "site-packages"))
    monkeypatch.delenv(plugin_library.VARIABLE, raising=False)
    none = doctor._plugin()
    assert none.state == OPTIONAL
    assert "KEYPOSS_PLUGIN_LIBRARY is not set" in none.found
    assert "docs/plugin.md" in none.remedy

    broken = tmp_path / "lib" / plugin_library.FILE
    broken.parent.mkdir()
    broken.write_bytes(b"no library")
    assert "does not load" in doctor._plugin().found

    monkeypatch.setenv(plugin_library.VARIABLE, "/nowhere/plugin.so")
    assert "/nowhere/plugin.so" in doctor._plugin().found


def test_cuda_version(tmp_path):
    file = tmp_path / "version.json"
    assert doctor._cuda_version(file) == ""
    file.write_text('{"cuda": {"version": "13.0.2"}}')
    assert doctor._cuda_version(file) == "CUDA 13.0.2, "
    file.write_text("[]")
    assert doctor._cuda_version(file) == ""
