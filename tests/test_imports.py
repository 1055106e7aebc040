"""What is loaded when: the package and its help start light, and landmarks need neither torch nor onnx nor TensorRT."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from model_zoo import tiny_model

ROOT = Path(__file__).resolve().parent.parent
TENSORRT = ["tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"]
HEAVY = ["torch", *TENSORRT, "onnx", "cv2", "onnxruntime"]


def loaded_after(code: str, watched: list[str]) -> list[str]:
    """Which of the watched modules a fresh interpreter has loaded after running the code."""
    report = f"\nimport sys; sys.stderr.write('loaded: ' + ' '.join(m for m in {watched!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.rsplit("loaded: ", 1)[1].split()


def test_the_check_can_fail() -> None:
    assert loaded_after("import cv2", HEAVY) == ["cv2"]


def test_import_is_light() -> None:
    assert loaded_after("import keyposs_trt; dir(keyposs_trt); keyposs_trt.__version__", HEAVY) == []


def test_help_is_light() -> None:
    # One interpreter for all: a module that any of them loads stays loaded.
    code = """
import runpy, sys
verbs = "run", "train", "eval", "export", "dataset", "build", "inspect", "doctor"
for arguments in ["--help"], ["--version"], *([verb, "--help"] for verb in verbs):
    sys.argv = ["keyposs-trt", *arguments]
    try:
        runpy.run_module("keyposs_trt.cli.main", run_name="__main__")
    except SystemExit as e:
        assert not e.code, (arguments, e.code)
"""
    assert loaded_after(code, HEAVY) == []


def test_parts_are_light() -> None:
    code = """
from keyposs_trt import KeypossError, Landmarker, Landmarks, build_engine, load_scheme
from keyposs_trt import crop, detection, drawing, engine, graph, landmarker, models
"""
    assert loaded_after(code, HEAVY) == []


def test_landmarks_need_onnxruntime_and_opencv_alone(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.onnx")
    code = f"""
import cv2
from keyposs_trt import Landmarker
from keyposs_trt.drawing import draw_landmarks
image = cv2.imread("examples/astronaut.jpg")
with Landmarker.load({str(model)!r}) as landmarker:
    assert len(landmarker(image)) == 1
    draw_landmarks(image, landmarker(image))
"""
    assert loaded_after(code, HEAVY) == ["cv2", "onnxruntime"]
