"""Models on ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from model_zoo import spot_image, template, tiny_model

from keyposs_trt.engine import onnxruntime_runner as module
from keyposs_trt.engine.onnxruntime_runner import OnnxRuntimeRunner
from keyposs_trt.engine.runner import open_runner
from keyposs_trt.errors import BackendError, ModelError, UsageError
from keyposs_trt.graph import change_decoder
from keyposs_trt.landmarker import Landmarker

if TYPE_CHECKING:
    from pathlib import Path

CELLS = [(14, 16), (16, 15), (17, 18)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.stack([spot_image(128, 32, cell) for cell in CELLS])


@pytest.mark.parametrize("grid", ["half_pixel", "corner"])
@pytest.mark.parametrize("decoder", ["wls", "none"])
def test_landmarks_in_crop_pixels(tmp_path: Path, crops: np.ndarray, grid: str, decoder: str) -> None:
    with OnnxRuntimeRunner(tiny_model(tmp_path / "m.onnx", grid=grid, decoder=decoder), threads=1) as runner:
        outputs = runner(crops)
    assert (outputs.landmarks.shape, outputs.scores.shape, outputs.covariance.shape) == ((3, 68, 2), (3, 68), (3, 68, 3))
    assert outputs.landmarks.dtype == outputs.scores.dtype == outputs.covariance.dtype == np.float32
    expected = (np.array(CELLS)[:, None] + template(68, 32)) * 4 + (1.5 if grid == "half_pixel" else 0)
    inside = ((expected > 16) & (expected < 112)).all(-1)  # nearer the border the network's own padding shows
    assert inside.sum() > 100
    np.testing.assert_allclose(outputs.landmarks[inside], expected[inside], atol=0.25)
    assert outputs.scores[inside].min() > 0.8


def test_decoder_in_the_graph_agrees_with_numpy(tmp_path: Path, model: Path, crops: np.ndarray) -> None:
    noisy = (crops // 2 + np.random.default_rng(0).integers(0, 60, crops.shape)).astype(np.uint8)
    with OnnxRuntimeRunner(model) as graph, OnnxRuntimeRunner(tiny_model(tmp_path / "n.onnx", decoder="none")) as numpy:
        a, b = graph(noisy), numpy(noisy)
    np.testing.assert_allclose(a.landmarks, b.landmarks, atol=4e-3)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)


def test_a_batch_is_its_parts(model: Path, crops: np.ndarray) -> None:
    with OnnxRuntimeRunner(model) as runner:
        together = runner(crops).landmarks
        np.testing.assert_allclose(np.concatenate([runner(crops[i : i + 1]).landmarks for i in range(3)]), together, atol=1e-4)
        assert len(runner(crops[:0])) == 0


def test_calls_from_several_threads(model: Path, crops: np.ndarray) -> None:
    with OnnxRuntimeRunner(model, threads=1) as runner, ThreadPoolExecutor(4) as pool:
        expected = runner(crops).landmarks
        for found in pool.map(lambda _: runner(crops).landmarks, range(12)):
            np.testing.assert_array_equal(found, expected)


def test_wrong_crops_and_closed(model: Path, crops: np.ndarray) -> None:
    runner = OnnxRuntimeRunner(model)
    assert runner.backend == "onnxruntime"
    assert runner.provider == "CPUExecutionProvider"
    with pytest.raises(UsageError, match="takes crops"):
        runner(crops[:, :64])
    runner.close()
    runner.close()
    with pytest.raises(BackendError, match="is closed"):
        runner(crops)


def test_closed_by_another_thread_during_a_call(model: Path, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = OnnxRuntimeRunner(model)

    def close_first(crops: np.ndarray, spec: object) -> np.ndarray:
        runner.close()
        return crops

    monkeypatch.setattr(module, "check_crops", close_first)
    assert len(runner(crops)) == 3
    with pytest.raises(BackendError, match="is closed"):
        runner(crops)


def test_missing_truncated_and_foreign_models(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ModelError, match="There is no model"):
        OnnxRuntimeRunner(tmp_path / "nowhere.onnx")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[:-2000])
    with pytest.raises(ModelError):
        OnnxRuntimeRunner(cut)
    foreign = onnx.load(str(model))
    del foreign.metadata_props[:]
    onnx.save(foreign, str(tmp_path / "foreign.onnx"))
    with pytest.raises(ModelError, match="without keyposs metadata"):
        OnnxRuntimeRunner(tmp_path / "foreign.onnx")


def test_other_format_version(tmp_path: Path, model: Path) -> None:
    other = onnx.load(str(model))
    for entry in other.metadata_props:
        if entry.key == "keyposs.format_version":
            entry.value = "99"
    onnx.save(other, str(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match="graph format version 99"):
        OnnxRuntimeRunner(tmp_path / "other.onnx")


def test_graph_that_disagrees_with_its_metadata(tmp_path: Path, model: Path) -> None:
    wrong = onnx.load(str(model))
    for entry in wrong.metadata_props:
        if entry.key == "keyposs.points":
            entry.value = "98"
    onnx.save(wrong, str(tmp_path / "wrong.onnx"))
    with pytest.raises(ModelError):
        OnnxRuntimeRunner(tmp_path / "wrong.onnx")


@pytest.mark.parametrize("load", [OnnxRuntimeRunner, open_runner, lambda path: Landmarker.load(path, detector=None)])
def test_a_model_with_the_plugin_is_refused(tmp_path: Path, model: Path, load: Any) -> None:
    path = tmp_path / "p.onnx"
    onnx.save(change_decoder(onnx.load(str(model)), "plugin"), str(path))
    with pytest.raises(BackendError, match=r"which ONNX Runtime cannot run; export it with .*--decoder onnx', or build an engine with"):
        load(path)
