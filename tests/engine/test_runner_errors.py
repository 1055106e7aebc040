"""What the runner does when a call fails or a plan does not suit, on a stand-in for TensorRT and for the GPU."""

from __future__ import annotations

import numpy as np
import pytest
from fake_device import FakeDevice
from fake_tensorrt import SIZE, Machine, crops, make_machine
from numpy.testing import assert_array_equal

from keyposs_trt.engine.gpu import Driver
from keyposs_trt.engine.runner import open_runner
from keyposs_trt.errors import BackendError, ModelError, UsageError


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


def test_each_failure_has_its_own_reason(machine):
    m = machine()
    with m.open() as runner:
        log = runner._shared._log
        m.happened.fail = True
        for reason in ("the first", "the second"):
            log.add(1, reason)
            with pytest.raises(BackendError, match=f"failed: {reason};"):
                runner(crops(1))
        for _ in range(2000):
            log.add(2, "again and again")
        assert len(log.warnings) == 1000
