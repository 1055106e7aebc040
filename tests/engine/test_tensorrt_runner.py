"""The runner's calls and its memory, on a stand-in for TensorRT and for the GPU: no GPU is needed, none is shown to work."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fake_device import FakeDevice
from fake_tensorrt import MAPS, POINTS, SIZE, crops
from model_zoo import spot_image, tiny_model
from numpy.testing import assert_allclose, assert_array_equal

from keyposs_trt.engine.build import build_engine
from keyposs_trt.engine.gpu import current_gpu
from keyposs_trt.engine.runner import StepRunner, open_runner
from keyposs_trt.engine.versions import Backend, installed_backends
from keyposs_trt.errors import BackendError


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_any_number_of_crops(machine, count, integrated):
    m = machine(device=FakeDevice(integrated=integrated))
    with m.open() as runner:
        for start in (0, 7, 2, 9):  # the last are replays
            out = runner(crops(count, start))
            assert out.landmarks.shape == (count, POINTS, 2)
            assert out.covariance.shape == (count, POINTS, 3)
            assert_array_equal(out.scores, np.repeat(start + 10 * np.arange(count)[:, None], POINTS, 1))
    assert ("copy" in m.device.calls) != integrated


def test_in_steps_gives_the_same_and_waits_for_each(machine):
    m = machine()
    steps = []

    def lap(step):
        steps.append((step, m.device.calls[-1]))

    with m.open() as runner:
        assert isinstance(runner, StepRunner)
        for _ in range(3):
            steps.clear()
            found = runner.in_steps(crops(5), lap)
        whole = runner(crops(5))
    assert_array_equal(found.landmarks, whole.landmarks)
    assert steps == [(name, "synchronise") for name in ("copy in", "network", "copy out")] * 2
    assert m.happened.calls[:6] == [4, 1] * 3  # plain each time


def test_no_crops_run_nothing(machine):
    m = machine()
    with m.open() as runner:
        assert len(runner(crops(0))) == 0
    assert m.happened.calls == []


def test_small_calls_are_filled_up(machine):
    m = machine(batch=(3, 4, 4))
    with m.open() as runner:
        for _ in range(3):
            assert_array_equal(runner(crops(2)).landmarks[:, 0, 0], [0, 10])
    assert m.happened.calls == [3, 3]


def test_outputs_of_one_call_outlive_the_next(machine):
    m = machine()
    with m.open() as runner:
        first = runner(crops(2)).scores
        before = first.copy()
        runner(crops(2, 5))
    assert_array_equal(first, before)


def test_memory_is_taken_once_and_freed(machine):
    m = machine()
    runner = m.open()
    taken = len(m.device.blocks)
    assert taken == 2 * 4 + 1  # two for each tensor, and the scratch
    for count in (4, 3, 9, 1) * 3:
        runner(crops(count))
    assert len(m.device.blocks) == taken
    runner.close()
    runner.close()
    assert m.device.left() == {}
    with pytest.raises(BackendError, match="is closed"):
        runner(crops(1))
    with pytest.raises(BackendError, match="is closed"):
        runner.clone()


def test_a_mapped_buffer_is_one_block(machine):
    m = machine(device=FakeDevice(integrated=True))
    with m.open():
        assert [b.kind for b in m.device.blocks] == ["mapped"] * 4 + ["device"]


def test_calls_from_threads_wait_for_each_other(machine):
    m = machine()
    wrong = []
    with m.open() as runner:
        twin = runner.clone()

        def run(value: int) -> None:
            for i in range(20):
                batch = np.full((1 + (value + i) % 4, SIZE, SIZE, 3), value, np.uint8)
                for r in (runner, twin):
                    wrong.extend(1 for v in r(batch).scores.flat if v != value)

        threads = [threading.Thread(target=run, args=(v,)) for v in (1, 2, 3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        twin.close()
    assert wrong == []


def test_half_heatmaps_are_decoded(machine):
    m = machine(decoder="none")
    with open_runner(m.path) as runner:
        assert (runner.backend, runner.spec.decoder) == ("tensorrt", "none")
        out = runner(crops(4))
    assert out.landmarks.dtype == np.float32
    stride = SIZE / MAPS
    assert np.abs(out.landmarks[3] - (np.array([5, 3]) + 0.5) * stride + 0.5).max() <= stride / 2


def test_the_plugin_is_loaded_before_a_plan_that_needs_it(machine):
    m = machine(decoder="plugin")
    for _ in range(2):  # the second runner finds it registered
        with open_runner(m.path) as runner:
            assert runner(crops(2)).landmarks.shape == (2, POINTS, 2)


@pytest.mark.gpu
def test_real_gpu_agrees_with_onnxruntime(tmp_path):
    gpu = current_gpu()
    if gpu is None:
        pytest.skip("there is no NVIDIA GPU")
    pytest.importorskip("cuda.core", reason="needs cuda-python: pip install -e '.[gpu]'")
    installed = [b for b in installed_backends().values() if isinstance(b, Backend)]
    fitting = [b for b in installed if not b.is_rtx or gpu.target in b.known_targets()]
    if not fitting:
        pytest.skip(f"no TensorRT here builds for {gpu.name} ({gpu.target})")
    model = tiny_model(tmp_path / "tiny.onnx", points=5, heatmap_size=16, input_size=32)
    batch = np.stack([spot_image(32, 16, (4 + 2 * i, 10 - i)) for i in range(5)])
    for result in build_engine(model, tmp_path, backend=fitting[0].name, gpu="current", batch=(1, 2, 4)):
        assert result.error is None
        with open_runner(model, "onnxruntime") as cpu, open_runner(result.plan) as gpu_runner:
            expected, found = cpu(batch), gpu_runner(batch)
        assert_allclose(found.landmarks, expected.landmarks, atol=0.01 if result.precision == "fp32" else 0.5)
        assert_allclose(found.scores, expected.scores, atol=0.02)
