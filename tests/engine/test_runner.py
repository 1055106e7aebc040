"""Which runtime a file goes to, and what all runners share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_zoo import tiny_model, tiny_spec

from keyposs_trt.engine import open_runner
from keyposs_trt.engine.runner import check_crops, decode_heatmaps, empty_outputs
from keyposs_trt.errors import ModelError, UsageError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_onnx_goes_to_onnxruntime(model: Path, backend: str) -> None:
    with open_runner(str(model), backend, threads=1) as runner:
        assert runner.backend == "onnxruntime"
        assert runner.spec.name == "tiny"


def test_plan_goes_to_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyposs_trt.engine import tensorrt_runner

    opened: list[Any] = []
    monkeypatch.setattr(tensorrt_runner, "TensorRTRunner", lambda path, backend: opened.append((path, backend)))
    open_runner("a.plan")
    open_runner("b.ENGINE", "tensorrt-rtx")
    assert opened == [(Path("a.plan"), "auto"), (Path("b.ENGINE"), "tensorrt-rtx")]


def test_onnx_is_no_engine(model: Path) -> None:
    with pytest.raises(UsageError, match=r"make one with 'keyposs-trt build .*tiny\.onnx --backend tensorrt-rtx'"):
        open_runner(model, "tensorrt-rtx")


def test_engine_is_no_onnx() -> None:
    with pytest.raises(UsageError, match="which onnxruntime cannot run"):
        open_runner("a.plan", "onnxruntime")


def test_checkpoint() -> None:
    with pytest.raises(ModelError, match=r"export it first with 'keyposs-trt export last\.ckpt'"):
        open_runner("last.ckpt")


@pytest.mark.parametrize("path", ["a.txt", "model", "a.plan.json"])
def test_foreign_file(path: str) -> None:
    with pytest.raises(ModelError, match="is not a model this tool runs"):
        open_runner(path)


def test_unknown_backend(model: Path) -> None:
    with pytest.raises(UsageError, match="choose one of auto, onnxruntime, tensorrt, tensorrt-rtx"):
        open_runner(model, "openvino")


@pytest.mark.parametrize("threads", [0, -1])
def test_threads(model: Path, threads: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        open_runner(model, threads=threads)


@pytest.mark.parametrize(
    "crops",
    [np.zeros((1, 64, 64, 3), np.uint8), np.zeros((128, 128, 3), np.uint8), np.zeros((1, 3, 128, 128), np.uint8),
     np.zeros((1, 128, 128, 3), np.float32)],
)  # fmt: skip
def test_wrong_crops(crops: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"takes crops of uint8 \[N, 128, 128, 3\]"):
        check_crops(crops, tiny_spec())


def test_crops_become_contiguous() -> None:
    crops = np.zeros((2, 128, 256, 3), np.uint8)[:, :, ::2]
    assert check_crops(crops, tiny_spec()).flags.c_contiguous


def test_outputs_of_no_crops() -> None:
    outputs = empty_outputs(tiny_spec(points=29))
    assert (outputs.landmarks.shape, outputs.scores.shape, outputs.covariance.shape) == ((0, 29, 2), (0, 29), (0, 29, 3))


@pytest.mark.parametrize(("grid", "shift"), [("corner", 0.0), ("half_pixel", 1.5)])
def test_heatmaps_are_decoded_to_crop_pixels(grid: str, shift: float) -> None:
    truth = np.array([[10.3, 20.7], [5.25, 8.5]])
    rows, columns = np.mgrid[:32, :32]
    maps = np.exp(-((columns - truth[:, :1, None]) ** 2 + (rows - truth[:, 1:, None]) ** 2) / (2 * 2.0**2))[None] * 0.8
    spec = dataclasses.replace(tiny_spec(points=2, grid=grid, decoder="none"), decoder_parameters={"radius": 3, "prior": 0.1})
    outputs = decode_heatmaps(maps.astype(np.float16), spec)
    np.testing.assert_allclose(outputs.landmarks[0], truth * 4 + shift, atol=0.02)
    np.testing.assert_allclose(outputs.scores, 0.8, atol=0.01)
    assert outputs.covariance.shape == (1, 2, 3)
