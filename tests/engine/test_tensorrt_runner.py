"""The runner's logic on a stand-in for TensorRT and for the GPU: no GPU is needed, none is shown to work."""

from __future__ import annotations

import gc
import logging
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fake_device import FakeDevice
from fake_tensorrt import MAPS, POINTS, SIZE, Machine, make_machine
from model_zoo import spot_image, tiny_model
from numpy.testing import assert_allclose, assert_array_equal

from keyposs_trt.engine import tensorrt_runner
from keyposs_trt.engine.build import build_engine
from keyposs_trt.engine.cuda_graph import MOST
from keyposs_trt.engine.gpu import Driver, current_gpu
from keyposs_trt.engine.runner import StepRunner, open_runner
from keyposs_trt.engine.versions import Backend, installed_backends
from keyposs_trt.errors import BackendError, ModelError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Makes machines; at the end each has its memory, streams and graphs back."""
    made: list[Machine] = []

    def make(**options) -> Machine:
        m = make_machine(monkeypatch, tmp_path, **options)
        monkeypatch.setattr(tensorrt_runner, "CudaDevice", lambda: m.device)
        made.append(m)
        return m

    yield make
    gc.collect()
    assert [m.device.left() for m in made] == [{}] * len(made)


def crops(count: int, start: int = 0) -> np.ndarray:
    """Crop i is filled with start + 10 i."""
    values = start + 10 * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, SIZE, SIZE, 3))


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


# CUDA graphs


def test_a_batch_size_is_captured_at_its_second_use_and_replayed_from_then_on(machine):
    m = machine()
    with m.open() as runner:
        for _ in range(5):
            runner(crops(2))
        assert (m.happened.calls, m.happened.captured) == ([2, 2], [2])
        m.device.calls.clear()
        assert_array_equal(runner(crops(2, 3)).scores[:, 0], [3, 13])
        assert m.device.calls == ["current", "launch", "synchronise"]
        for count in (3, 1, 3, 1, 3, 2, 1):
            assert_array_equal(runner(crops(count)).scores[:, 0], 10 * np.arange(count))
    assert m.happened.captured == [2, 3, 1]


def test_no_more_graphs_than_there_is_room_for(machine):
    most = MOST + 3
    m = machine(batch=(1, 2, most))
    with m.open() as runner:
        for count in range(1, most + 1):
            runner(crops(count))
            runner(crops(count))
        assert len(m.device.graphs) == MOST
        assert_array_equal(runner(crops(1, 3)).scores[:, 0], [3])  # the oldest had to go and comes again
        assert_array_equal(runner(crops(most)).scores[:3, 0], [0, 10, 20])
        assert len(m.device.graphs) == MOST


@pytest.mark.parametrize("how", ["enqueue", "context", "begin_capture", "end_capture", "launched"])
def test_without_graphs_it_goes_on_plainly_and_says_so_once(machine, how, caplog):
    m = machine()
    m.happened.fail_captured = how == "enqueue"
    m.happened.no_context = 1 if how == "context" else 100
    m.device.fail = {how}
    with m.open() as runner, caplog.at_level(logging.WARNING):
        for i in range(4):
            assert_array_equal(runner(crops(2, i)).scores[:, 0], [i, 10 + i])
            assert_array_equal(runner(crops(3, i)).scores[:, 0], [i, 10 + i, 20 + i])
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == (0 if how == "launched" else 1)
    assert all("runs without CUDA graphs, a little slower" in text for text in messages)
    assert len(m.happened.calls) == (4 if how == "launched" else 8)


def test_rtx_that_cannot_be_captured_runs_plainly(machine, caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("KEYPOSS_CACHE", str(tmp_path))
    m = machine(rtx=True)
    m.happened.capturable = False
    with m.open() as runner:
        for _ in range(3):
            runner(crops(2))
    assert "it cannot be captured" in caplog.text
    assert m.happened.captured == []


# Clones


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_clones_share_the_engine_and_close_in_any_order(machine, order):
    m = machine()
    first = m.open()
    runners = [first, first.clone(), first.clone()]
    streams = len(m.device.streams) - 1
    assert streams == 3
    for i, runner in enumerate(runners * 3):
        assert_array_equal(runner(crops(2, i)).scores[:, 0], [i, 10 + i])
    del first, runner
    for i, number in enumerate(order):
        runners[number].close()
        if i < 2:
            left = runners[order[2]]
            assert_array_equal(left(crops(3)).scores[:, 0], [0, 10, 20])
            assert "engine" not in m.happened.ends
    assert m.happened.ends[-2:] == ["engine", "runtime"]
    assert set(m.happened.ends[:-2]) == {"context"}
    assert m.happened.ends.count("context") == m.happened.contexts


def test_a_clone_that_finds_no_room_leaves_nothing(machine):
    m = machine()
    with m.open() as runner:
        before = m.device.left()
        m.device.fail_at = len(m.device.calls) + 6
        with pytest.raises(BackendError, match="it was told to"):
            runner.clone()
        m.device.fail_at = 0
        assert m.device.left() == before
        assert len(runner(crops(1))) == 1
    assert m.happened.ends[-2:] == ["engine", "runtime"]


# Errors


def work(m: Machine) -> None:
    """Opens, runs what there is to run, clones and closes; closes whatever happens."""
    with m.open() as runner:
        for count in (2, 2, 2, 5, 5):
            assert_array_equal(runner(crops(count)).scores[:, 0], 10 * np.arange(count))
        with runner.clone() as twin:
            for i in range(3):
                assert_array_equal(twin(crops(3, i)).scores[:, 0], [i, i + 10, i + 20])


@pytest.mark.parametrize(("sticky", "integrated"), [(False, False), (True, False), (False, True)])
def test_an_error_in_any_call_is_a_backend_error_and_leaves_nothing(monkeypatch, tmp_path, sticky, integrated):
    m = make_machine(monkeypatch, tmp_path, device=FakeDevice(integrated=integrated))
    work(m)
    count = len(m.device.calls)
    assert count > 50
    raised = 0
    for k in range(1, count + 1):
        m = make_machine(monkeypatch, tmp_path, device=FakeDevice(integrated=integrated))
        m.device.fail_at, m.device.sticky = k, sticky
        try:
            work(m)
        except BackendError:
            raised += 1
        assert m.device.left() == {}, (k, m.device.calls[k - 1])
    assert raised > count // 2  # the others only cost graphs, or came at the end


def test_a_runner_works_again_after_an_error(machine):
    m = machine()
    with m.open() as runner:
        for k in range(1, 20):
            m.device.fail_at = len(m.device.calls) + k
            try:
                runner(crops(4, k))
            except BackendError:
                m.device.fail_at = 0
                assert_array_equal(runner(crops(4, k)).scores[:, 0], k + 10 * np.arange(4))


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


def test_plan_that_needs_a_plugin_which_is_not_here(machine, monkeypatch):
    m = machine(decoder="plugin")
    monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", "/nowhere/plugin.so")
    with pytest.raises(BackendError, match=r"KEYPOSS_PLUGIN_LIBRARY names '/nowhere/plugin\.so'"):
        open_runner(m.path)


def test_wrong_crops(machine):
    m = machine()
    with m.open() as runner, pytest.raises(UsageError, match=r"takes crops of uint8 \[N, 16, 16, 3\]"):
        runner(np.zeros((1, 8, 8, 3), np.uint8))


def test_out_of_memory_is_a_sentence_and_frees_what_was_taken(machine):
    m = machine(device=FakeDevice(room=4 * SIZE * SIZE * 3 + 10))
    with pytest.raises(BackendError, match=r"out of memory; .*CPU"):
        m.open()
    assert m.device.left() == {}


def test_plan_that_does_not_load_gives_tensorrts_reason(machine):
    m = machine(loads=False)
    with pytest.raises(BackendError, match=r"TensorRT cannot load .*: Magic tag does not match; .*keyposs-trt build face68-32"):
        m.open()


def test_failing_run(machine):
    m = machine()
    m.happened.fail = True
    with m.open() as runner, pytest.raises(BackendError, match="engine failed"):
        runner(crops(1))


def test_engine_with_other_tensors(machine):
    m = machine()
    m.tensors["extra"] = ("FLOAT", (1,))
    with pytest.raises(ModelError, match="has the tensors image, landmarks, scores, covariance, extra"):
        m.open()


def test_other_backend_than_the_plans(machine):
    with pytest.raises(UsageError, match="is a tensorrt engine, not one of tensorrt-rtx"):
        open_runner(machine().path, "tensorrt-rtx")


def test_without_a_gpu_the_sentence_says_what_to_do(machine):
    m = machine(driver=Driver(None, (), "no NVIDIA driver (libcuda.so.1 not found)"))
    with pytest.raises(BackendError) as e:
        open_runner(m.path)
    assert str(e.value) == (
        f"The engine '{m.path}' needs an NVIDIA GPU, and there is no NVIDIA driver (libcuda.so.1 not found); "
        "run the ONNX model with the CPU backend instead: keyposs-trt run SOURCE --model face68-32 --backend onnxruntime"
    )


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
