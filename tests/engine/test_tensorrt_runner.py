"""The runner's logic on a stand-in for TensorRT and CUDA, with host memory as the device's: no GPU is needed, none is shown to work."""

from __future__ import annotations

import ctypes
import enum
import hashlib
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from model_zoo import spot_image, tiny_model, tiny_spec
from numpy.testing import assert_allclose, assert_array_equal

from keyposs_trt.engine import manifest as manifest_module
from keyposs_trt.engine.build import build_engine
from keyposs_trt.engine.gpu import Driver, Gpu, current_gpu
from keyposs_trt.engine.manifest import Manifest, this_platform, write_plan
from keyposs_trt.engine.runner import StepRunner, open_runner
from keyposs_trt.engine.tensorrt_runner import TensorRTRunner
from keyposs_trt.engine.versions import Backend, installed_backends
from keyposs_trt.errors import BackendError, ModelError, UsageError
from keyposs_trt.graph.contract import PLUGIN_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from keyposs_trt.graph.contract import ModelSpec

SIZE, POINTS, MAPS = 16, 3, 8
PLAN = b"a plan"
ORIN = Driver("12.6", (Gpu("Orin", (8, 7)),))


class CudaError(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815


class FakeCuda(ModuleType):
    """cuda.bindings.runtime on host memory; every address and size is checked."""

    cudaError_t = CudaError  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down")  # noqa: N815

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__("cuda.bindings.runtime")
        self.blocks: dict[int, Any] = {}
        self.room = room
        self.streams = 0
        self.synchronised = True

    def cudaStreamCreate(self):
        self.streams += 1
        return CudaError.cudaSuccess, 7

    def cudaStreamDestroy(self, stream):
        self.streams -= 1
        return (CudaError.cudaSuccess,)

    def cudaMalloc(self, size):
        if size > self.room:
            return CudaError.cudaErrorMemoryAllocation, None
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return CudaError.cudaSuccess, ctypes.addressof(block)

    def cudaFree(self, address):
        del self.blocks[address]
        return (CudaError.cudaSuccess,)

    def cudaMemcpyAsync(self, to, source, size, kind, stream):
        device = to if kind == "up" else source
        assert size <= len(self.blocks[device])
        assert stream == 7
        ctypes.memmove(to, source, size)
        self.synchronised = False
        return (CudaError.cudaSuccess,)

    def cudaStreamSynchronize(self, stream):
        self.synchronised = True
        return (CudaError.cudaSuccess,)

    def cudaGetErrorString(self, code):
        return CudaError.cudaSuccess, b"out of memory"

    def array(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        count = int(np.prod(shape))
        return np.frombuffer(self.blocks[address], dtype, count).reshape(shape)


class Engine:
    """An engine that answers with the crop's mean and its place in the batch; also its own context."""

    num_io_tensors = property(lambda self: len(self.tensors))

    def __init__(self, cuda: FakeCuda, spec: ModelSpec, batch: tuple[int, int, int], heatmap_type: str) -> None:
        self.cuda, self.batch = cuda, batch
        self.tensors = {"image": ("UINT8", (SIZE, SIZE, 3))}
        if spec.decoder == "none":
            self.tensors["heatmaps"] = (heatmap_type, (POINTS, MAPS, MAPS))
        else:
            self.tensors |= {"landmarks": ("FLOAT", (POINTS, 2)), "scores": ("FLOAT", (POINTS,)), "covariance": ("FLOAT", (POINTS, 3))}
        self.addresses: dict[str, int] = {}
        self.calls: list[int] = []
        self.fail = False

    def create_execution_context(self):
        return self

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_shape(self, name):
        return (-1, *self.tensors[name][1])

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name=self.tensors[name][0])

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def set_input_shape(self, name, shape):
        assert name == "image"
        self.count = shape[0]
        return self.batch[0] <= shape[0] <= self.batch[2]

    def execute_async_v3(self, stream):
        assert stream == 7
        self.calls.append(self.count)
        if self.fail:
            return False
        crops = self.cuda.array(self.addresses["image"], (self.count, SIZE, SIZE, 3), np.uint8)
        means = crops.mean((1, 2, 3))
        for name, (kind, shape) in self.tensors.items():
            if name != "image":
                out = self.cuda.array(self.addresses[name], (self.count, *shape), {"FLOAT": np.float32, "HALF": np.float16}[kind])
                out[:] = 0 if kind == "HALF" else means.reshape(-1, *[1] * len(shape))
                if kind == "HALF":
                    out[:, :, 3, 5] = (means / 255)[:, None]
        return True


class Registry:
    """TensorRT's plugin registry."""

    def __init__(self) -> None:
        self.all_creators: list[Any] = []

    def load_library(self, path: str) -> object:
        assert self.all_creators == []
        self.all_creators.append(SimpleNamespace(name=PLUGIN_NAME, plugin_version="1", plugin_namespace=""))
        return object()


class Machine(SimpleNamespace):
    """One fake machine: its CUDA, its plugin registry, and the engine of the last runner."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def make(*, batch=(1, 2, 4), decoder="wls", heatmap_type="HALF", room=1 << 30, loads=True, driver=ORIN) -> Machine:
        spec = tiny_spec(points=POINTS, heatmap_size=MAPS, input_size=SIZE, decoder=decoder)
        cuda = FakeCuda(room)
        engine = Engine(cuda, spec, batch, heatmap_type)

        class Runtime:
            def __init__(self, logger: Any) -> None:
                self.logger = logger

            def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
                assert plan == PLAN
                assert bool(registry.all_creators) == (decoder == "plugin")
                self.logger.log(2, "a warning")
                if not loads:
                    self.logger.log(1, "Magic tag\ndoes not match")
                return engine if loads else None

        trt = ModuleType("tensorrt")
        trt.__dict__.update(__version__="10.3.0", Runtime=Runtime, ILogger=object)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
        monkeypatch.setattr(manifest_module, "query_driver", lambda: driver)
        monkeypatch.setattr(manifest_module, "current_gpu", lambda: driver.gpus[0] if driver.gpus else None)
        if decoder == "plugin":
            library = tmp_path / "plugin.so"
            library.write_bytes(b"a library")
            monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", str(library))
        registry = Registry()
        trt.__dict__["get_plugin_registry"] = lambda: registry
        path = tmp_path / "tiny_fp16_tensorrt.plan"
        values: dict[str, Any] = {
            "model": "face68-32", "onnx_sha256": "", "plan": path.name, "plan_sha256": hashlib.sha256(PLAN).hexdigest(),
            "plan_bytes": len(PLAN), "spec": spec, "precision": "fp16", "precision_found": "fp16", "layers": {},
            "runtime": "tensorrt", "runtime_version": "10.3.0", "cuda": "12.6", "platform": this_platform(), "gpu": "Orin",
            "targets": ("sm87",), "batch": batch, "workspace": None, "tool": "", "created": "", "build_seconds": 1.0,
            "plugin": {"name": PLUGIN_NAME, "version": "1", "sha256": ""} if decoder == "plugin" else None,
        }  # fmt: skip
        write_plan(path, PLAN, Manifest(**values))
        return Machine(path=path, cuda=cuda, engine=engine, registry=registry)

    return make


def crops(count: int) -> np.ndarray:
    """Crop i is filled with 10 i."""
    return np.broadcast_to(10 * np.arange(count, dtype=np.uint8)[:, None, None, None], (count, SIZE, SIZE, 3))


@pytest.mark.parametrize("count", [1, 4, 9])
def test_any_number_of_crops(machine, count):
    m = machine()
    with TensorRTRunner(m.path) as runner:
        out = runner(crops(count))
    assert out.landmarks.shape == (count, POINTS, 2)
    assert out.scores.shape == (count, POINTS)
    assert out.covariance.shape == (count, POINTS, 3)
    assert_array_equal(out.scores[:, 0], 10 * np.arange(count))
    assert m.engine.calls == {1: [1], 4: [4], 9: [4, 4, 1]}[count]


def test_in_steps_gives_the_same_and_waits_for_each(machine):
    m = machine()
    steps = []

    def lap(step):
        steps.append((step, m.cuda.synchronised))

    with TensorRTRunner(m.path) as runner:
        assert isinstance(runner, StepRunner)
        found, whole = runner.in_steps(crops(5), lap), runner(crops(5))
    assert_array_equal(found.landmarks, whole.landmarks)
    assert steps == [("copy in", True), ("network", True), ("copy out", True)] * 2


def test_no_crops_run_nothing(machine):
    m = machine()
    with TensorRTRunner(m.path) as runner:
        assert len(runner(crops(0))) == 0
    assert m.engine.calls == []


def test_small_calls_are_filled_up(machine):
    m = machine(batch=(3, 4, 4))
    with TensorRTRunner(m.path) as runner:
        out = runner(crops(2))
    assert m.engine.calls == [3]
    assert_array_equal(out.landmarks[:, 0, 0], [0, 10])


def test_outputs_of_one_call_outlive_the_next(machine):
    m = machine()
    with TensorRTRunner(m.path) as runner:
        first = runner(crops(2)).scores
        before = first.copy()
        runner(crops(2) + 5)
    assert_array_equal(first, before)


def test_memory_is_taken_once_and_freed(machine):
    m = machine()
    runner = TensorRTRunner(m.path)
    blocks = set(m.cuda.blocks)
    assert len(blocks) == 4
    runner(crops(4))
    runner(crops(3))
    assert set(m.cuda.blocks) == blocks
    runner.close()
    runner.close()
    assert (m.cuda.blocks, m.cuda.streams) == ({}, 0)
    with pytest.raises(BackendError, match="is closed"):
        runner(crops(1))


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


def test_calls_from_threads_wait_for_each_other(machine):
    m = machine()
    wrong = []
    with TensorRTRunner(m.path) as runner:

        def work(value: int) -> None:
            batch = np.full((4, SIZE, SIZE, 3), value, np.uint8)
            wrong.extend(1 for _ in range(20) if not (runner(batch).scores == value).all())

        threads = [threading.Thread(target=work, args=(v,)) for v in (1, 2, 3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert wrong == []


def test_wrong_crops(machine):
    m = machine()
    with TensorRTRunner(m.path) as runner, pytest.raises(UsageError, match=r"takes crops of uint8 \[N, 16, 16, 3\]"):
        runner(np.zeros((1, 8, 8, 3), np.uint8))


def test_out_of_memory_is_a_sentence_and_frees_what_was_taken(machine):
    m = machine(room=POINTS * 4 * 4 * 2)
    with pytest.raises(BackendError, match=r"CUDA failed in cudaMalloc: out of memory; .*CPU"):
        TensorRTRunner(m.path)
    assert (m.cuda.blocks, m.cuda.streams) == ({}, 0)


def test_driver_older_than_cuda_python(machine, monkeypatch):
    m = machine()
    monkeypatch.setattr(m.cuda, "cudaStreamCreate", lambda: (CudaError.cudaErrorInsufficientDriver, None))
    with pytest.raises(BackendError, match=r"cudaStreamCreate: .*pip install 'cuda-bindings<13'"):
        TensorRTRunner(m.path)


def test_a_failing_free_hides_nothing_and_frees_the_rest(machine, monkeypatch):
    m = machine()
    real = m.cuda.cudaFree
    tried = []

    def free(address):
        tried.append(address)
        return (CudaError.cudaErrorMemoryAllocation,) if len(tried) == 1 else real(address)

    monkeypatch.setattr(m.cuda, "cudaFree", free)
    m.engine.fail = True
    with pytest.raises(BackendError, match="engine failed"), TensorRTRunner(m.path) as runner:
        runner(crops(1))
    assert (len(tried), list(m.cuda.blocks), m.cuda.streams) == (4, tried[:1], 0)


def test_plan_that_does_not_load_gives_tensorrts_reason(machine):
    m = machine(loads=False)
    with pytest.raises(BackendError, match=r"TensorRT cannot load .*: Magic tag does not match; .*keyposs-trt build face68-32"):
        TensorRTRunner(m.path)
    assert (m.cuda.blocks, m.cuda.streams) == ({}, 0)


def test_failing_run(machine):
    m = machine()
    m.engine.fail = True
    with TensorRTRunner(m.path) as runner, pytest.raises(BackendError, match="engine failed"):
        runner(crops(1))


def test_engine_with_other_tensors(machine):
    m = machine()
    m.engine.tensors["extra"] = ("FLOAT", (1,))
    with pytest.raises(ModelError, match="has the tensors image, landmarks, scores, covariance, extra"):
        TensorRTRunner(m.path)
    assert m.cuda.blocks == {}


def test_other_backend_than_the_plans(machine):
    with pytest.raises(UsageError, match="is a tensorrt engine, not one of tensorrt-rtx"):
        open_runner(machine().path, "tensorrt-rtx")


def test_without_cuda_python(machine, monkeypatch):
    m = machine()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendError, match=r"needs cuda-python; install it with: pip install 'cuda-bindings<14'"):
        TensorRTRunner(m.path)


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
    pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python: pip install -e '.[gpu]'")
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
