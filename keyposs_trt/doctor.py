"""What this machine has for the toolkit, and what to do about what is missing."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
import sys
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.engine.cuda_device import INSTALL as INSTALL_CUDA
from keyposs_trt.engine.cuda_device import OLDEST as OLDEST_CUDA
from keyposs_trt.engine.gpu import query_driver
from keyposs_trt.engine.plugin_library import VARIABLE, find_library
from keyposs_trt.engine.versions import BACKENDS, INSTALL, Backend, installed_backends, version_numbers
from keyposs_trt.errors import BackendError, KeypossError
from keyposs_trt.findings import MISSING, OK, OPTIONAL, Finding
from keyposs_trt.jetson import Machine, describe_release
from keyposs_trt.jetson import diagnose as diagnose_jetson
from keyposs_trt.jetson.board import PACKAGES_FILE, RELEASE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyposs_trt.engine.gpu import Driver

OLDEST_PYTHON = (3, 10)

_REINSTALL = "the package is incomplete: get a whole checkout again, and in it run pip install -e ."
# Of the extra "train".
TRAINING_PACKAGES = "torch torchvision timm lightning tensorboard onnx onnx-graphsurgeon onnxscript numba scipy pyyaml h5py pillow"
_GPU_ONLY = "needs an NVIDIA GPU with its driver; the CPU path works without"


def diagnose() -> list[Finding]:
    """Looks at everything the toolkit can use, the needed parts first; nothing here raises or changes the machine."""
    driver, machine = query_driver(), Machine()
    checks: list[Callable[[], Finding]] = [_python, partial(_platform, machine), _opencv, _onnxruntime, _model, _detector]
    findings = [check() for check in checks]
    findings += [_gstreamer(), _gpu(driver), _nvcc()]
    backends = installed_backends()
    findings += [_tensorrt(name, backends[name], driver) for name in BACKENDS]
    findings += [
        _cuda_python(),
        _package("ONNX", "onnx", "onnx onnx-graphsurgeon", "builds engines"),
    ]
    findings += [_package("PyTorch", "torch", TRAINING_PACKAGES, "trains and exports"), _plugin()]
    board = diagnose_jetson(machine)
    return findings + ([*board, _crop_kernel()] if board else [])


def cpu_path_works(findings: list[Finding]) -> bool:
    """Whether nothing the CPU path needs is missing."""
    return all(f.state != MISSING for f in findings)


def to_json(findings: list[Finding]) -> str:
    """The findings as JSON text: ``cpu_path_works`` and ``parts``."""
    return json.dumps({"cpu_path_works": cpu_path_works(findings), "parts": [asdict(f) for f in findings]}, indent=2) + "\n"


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("Python", MISSING, found, "install Python 3.10 or newer")
    return Finding("Python", OK, found)


def _platform(machine: Machine) -> Finding:
    found = f"{platform.system()} {platform.machine()}"
    jetson = describe_release(machine.text(RELEASE_FILE), machine.text(PACKAGES_FILE))
    return Finding("Platform", OK, f"{found}, {jetson}" if jetson else found)


def _opencv() -> Finding:
    try:
        import cv2
    except ImportError as e:
        libraries = "; in a container without a display use opencv-python-headless" if "libGL" in str(e) else ""
        return Finding("OpenCV", MISSING, _line(e), f"pip install opencv-python{libraries}")
    found = f"{cv2.__version__}, FFmpeg: {'yes' if _has_video('FFMPEG') else 'no'}"
    return Finding("OpenCV", OK, found)


def _gstreamer() -> Finding:
    """Separate from OpenCV's own line: PyPI's OpenCV never has it, and cameras on a Jetson need it."""
    try:
        present = _has_video("GStreamer")
    except ImportError:
        present = False
    if present:
        return Finding("GStreamer", OK, "in OpenCV")
    remedy = "only CSI cameras and hardware decoding on a Jetson need it: use the system's OpenCV (apt install python3-opencv)"
    return Finding("GStreamer", OPTIONAL, "this OpenCV is built without", remedy)


def _has_video(name: str) -> bool:
    import cv2

    return re.search(rf"^\s*{name}:\s+YES", cv2.getBuildInformation(), re.MULTILINE) is not None


def _onnxruntime() -> Finding:
    try:
        import onnxruntime
    except ImportError as e:
        return Finding("ONNX Runtime", MISSING, _line(e), "pip install onnxruntime")
    providers = [p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers()]
    found = f"{onnxruntime.__version__}, providers: {', '.join(providers)}"
    if "CPU" not in providers:
        return Finding("ONNX Runtime", MISSING, found, "this build cannot use the CPU: pip install onnxruntime")
    return Finding("ONNX Runtime", OK, found)


def _model() -> Finding:
    """Runs the default model on a black crop: the CPU path itself."""
    from keyposs_trt.engine.runner import open_runner
    from keyposs_trt.models import resolve

    try:
        path = resolve(None)
        with open_runner(path, "onnxruntime", threads=1) as runner:
            size = runner.spec.input_size
            runner(np.zeros((1, size, size, 3), np.uint8))
    except (KeypossError, ImportError) as e:
        return Finding("Landmark model", MISSING, _line(e), _REINSTALL)
    return Finding("Landmark model", OK, f"{path.stem} ({runner.spec.points} points) runs on the CPU")


def _detector() -> Finding:
    from keyposs_trt.detection import load_detector

    try:
        load_detector(threads=1)(np.zeros((64, 64, 3), np.uint8))
    except (KeypossError, ImportError) as e:
        return Finding("Face detector", MISSING, _line(e), _REINSTALL)
    return Finding("Face detector", OK, "blazeface runs on the CPU")


def _gpu(driver: Driver) -> Finding:
    if driver.gpus:
        names = ", ".join(f"{g.name} (compute capability {g.capability[0]}.{g.capability[1]})" for g in driver.gpus)
        return Finding("CUDA driver", OK, f"CUDA {driver.cuda}, {names}")
    return Finding("CUDA driver", OPTIONAL, driver.problem, "install NVIDIA's driver to run engines; ONNX models run on the CPU")


def _nvcc() -> Finding:
    path = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if path is None:
        return Finding("CUDA compiler", OPTIONAL, "nvcc is not in PATH nor in /usr/local/cuda/bin", "only building the plugin needs it")
    version = _cuda_version(Path(path).resolve().parent.parent / "version.json")
    return Finding("CUDA compiler", OK, f"{version}{path}")


def _cuda_version(file: Path) -> str:
    try:
        return f"CUDA {json.loads(file.read_text())['cuda']['version']}, "
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _tensorrt(name: str, backend: Backend | KeypossError, driver: Driver) -> Finding:
    title = "TensorRT" if name == "tensorrt" else "TensorRT-RTX"
    if not isinstance(backend, Backend):
        return Finding(title, OPTIONAL, str(backend).partition(":")[0].removesuffix("."), INSTALL[name])
    if driver.gpus:
        return Finding(title, OK, backend.version)
    use = "builds engines here" if backend.is_rtx else "cannot build here"
    return Finding(title, OK, f"{backend.version}, {use}; running them {_GPU_ONLY}")


def _package(part: str, name: str, install: str, use: str) -> Finding:
    """A package by its metadata alone: importing torch would take seconds."""
    try:
        return Finding(part, OK, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(part, OPTIONAL, "not installed", f"{use}: pip install {install}")


def _cuda_python() -> Finding:
    """The two packages that engines run through, by their metadata alone; what ``CudaDevice`` would refuse is not there."""
    found: list[str] = []
    fits = True
    for name, oldest in OLDEST_CUDA.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(f"{name} is not installed")
            fits = False
            continue
        old = version_numbers(version) < version_numbers(oldest)
        found.append(f"{name} {version} is older than {oldest}" if old else f"{name} {version}")
        fits = fits and not old
    if fits:
        return Finding("cuda-python", OK, ", ".join(found))
    return Finding("cuda-python", OPTIONAL, ", ".join(found), f"runs engines: {INSTALL_CUDA}")


def _plugin() -> Finding:
    """The TensorRT plugin's library, where engines would find it, and whether it loads."""
    try:
        library = find_library()
    except BackendError as e:
        named = os.environ.get(VARIABLE)
        found = _line(e).split("; ")[0] if named else f"no library; {VARIABLE} is not set, and neither the package nor a build has one"
        return Finding("Plugin", OPTIONAL, found, "models decode in standard operators without it; docs/plugin.md says how to build it")
    try:
        ctypes.CDLL(str(library))
    except OSError as e:
        return Finding("Plugin", OPTIONAL, f"'{library}' does not load: {_line(e)}", "build it again on this machine")
    return Finding("Plugin", OK, str(library))


def _crop_kernel() -> Finding:
    """The library that makes crops on the GPU; named on a Jetson alone, where it saves a copy of each frame."""
    from keyposs_trt.engine.preprocess_library import PreprocessLibrary

    try:
        return Finding("Crop kernel", OK, str(PreprocessLibrary().path))
    except BackendError as e:
        found = _line(e).split("; ")[0].partition(": ")[0]
        return Finding("Crop kernel", OPTIONAL, found, "crops are made on the CPU without it; docs/jetson.md says how to build it")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
