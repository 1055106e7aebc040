"""The GPU through cuda-python, with a stand-in for its modules: which calls are made, and what their errors become."""

from __future__ import annotations

import ctypes
import enum
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from keyposs_trt.engine import cuda_device
from keyposs_trt.engine.cuda_device import CudaDevice
from keyposs_trt.engine.device import LEGACY_STREAM
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.errors import BackendError

PRIMARY, OTHER = 11, 22


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_VALUE = 1


class FakeDriver(ModuleType):
    """cuda.bindings.driver; ``answers`` are what a call gives, errors by name in ``fails``."""

    CUresult = Result
    CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTALLOC_DEVICEMAP = 1, 2
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="thread local")
    CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL="ordinal", CU_POINTER_ATTRIBUTE_CONTEXT="context")

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.calls: list[tuple[Any, ...]] = []
        self.current = 0
        self.fails: dict[str, Result] = {}
        self.attributes: dict[str, Any] = {"ordinal": 0, "context": PRIMARY}
        self.host: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            if name in self.fails:
                return self.fails[name], None
            answer = getattr(self, f"do_{name}", lambda *_: ())(*arguments)
            return (Result.CUDA_SUCCESS, *answer)

        return call

    def do_cuCtxGetCurrent(self):
        return (self.current,)

    def do_cuCtxSetCurrent(self, context):
        self.current = context
        return ()

    def do_cuMemHostAlloc(self, size, flags):
        block = ctypes.create_string_buffer(size)
        self.host[ctypes.addressof(block)] = block
        return (ctypes.addressof(block),)

    def do_cuMemHostGetDevicePointer(self, pointer, flags):
        return (0x7000,)

    def do_cuMemFreeHost(self, pointer):
        del self.host[pointer]
        return ()

    def do_cuStreamEndCapture(self, stream):
        return ("captured",)

    def do_cuGraphInstantiate(self, graph, flags):
        return (33,)

    def do_cuPointerGetAttribute(self, attribute, address):
        return (self.attributes[attribute],)

    def cuGetErrorString(self, code):
        return Result.CUDA_SUCCESS, Result(code).name.encode()


class FakeCore(ModuleType):
    """cuda.core."""

    def __init__(self, driver: FakeDriver, integrated: bool) -> None:
        super().__init__("cuda.core")
        self.driver = driver
        self.closed: list[Any] = []
        self.broken: Exception | None = None
        self.properties = SimpleNamespace(integrated=integrated, can_map_host_memory=True)
        self.name = "Orin"
        self.default_stream = "default"

    def Device(self, ordinal):
        assert ordinal == 0
        return self

    def set_current(self):
        self.driver.current = PRIMARY

    def StreamOptions(self, nonblocking):
        assert nonblocking
        return "options"

    def create_stream(self, options):
        return self._made(101)

    def create_event(self):
        return self._made("event")

    def allocate(self, size, stream):
        if self.broken:
            raise self.broken
        assert stream.handle == 101
        return self._made(0x5000)

    def _made(self, handle):
        def close(stream=None):
            self.closed.append((handle, getattr(stream, "handle", stream)))

        return SimpleNamespace(handle=handle, close=close)


class Fakes(SimpleNamespace):
    core: FakeCore
    driver: FakeDriver


@pytest.fixture
def cuda(monkeypatch):
    def make(*, integrated: bool = False, bindings: str = "12.9.1", driver_cuda: str | None = "12.6") -> Fakes:
        driver = FakeDriver()
        core = FakeCore(driver, integrated)
        package = ModuleType("cuda.bindings")
        package.__version__ = bindings
        monkeypatch.setitem(sys.modules, "cuda.core", core)
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)
        monkeypatch.setitem(sys.modules, "cuda.bindings", package)
        monkeypatch.setattr(cuda_device, "query_driver", lambda: Driver(driver_cuda, (Gpu("Orin", (8, 7)),)))
        return Fakes(core=core, driver=driver)

    return make


@pytest.mark.parametrize("integrated", [False, True])
def test_what_the_gpu_is(cuda, integrated):
    cuda(integrated=integrated)
    device = CudaDevice()
    assert (device.name, device.integrated) == ("Orin", integrated)


def test_the_callers_context_is_put_back(cuda):
    c = cuda()
    device = CudaDevice()
    c.driver.current = OTHER
    with device.current():
        assert c.driver.current == PRIMARY
    assert c.driver.current == OTHER
    with pytest.raises(ZeroDivisionError), device.current():
        raise ZeroDivisionError
    assert c.driver.current == OTHER
    c.driver.current = 0
    with device.current():
        pass
    assert c.driver.current == PRIMARY  # nothing was there to put back


def test_streams_memory_and_copies(cuda):
    c = cuda()
    device = CudaDevice()
    stream = device.new_stream()
    assert stream == 101
    there, here = device.allocate(64, stream), device.allocate_host(64, mapped=False)
    assert (there.address, there.host, there.mapped) == (0x5000, None, False)
    assert (here.host.shape, here.host.ctypes.data, here.mapped) == ((64,), here.address, False)
    here.host[:] = 7
    assert bytes(c.driver.host[here.address]) == b"\7" * 64
    c.driver.calls.clear()
    device.copy(there.address, here.address, 64, stream)
    device.synchronise(stream)
    device.synchronise_all()
    device.follow(stream, 0)
    assert c.driver.calls == [
        ("cuMemcpyAsync", 0x5000, here.address, 64, 101),
        ("cuStreamSynchronize", 101),
        ("cuCtxSynchronize",),
        ("cuEventRecord", "event", LEGACY_STREAM),
        ("cuStreamWaitEvent", 101, "event", 0),
    ]
    device.free(here, stream)
    device.free(there, stream)
    device.free(device.allocate(1, stream), None)
    device.end_stream(stream)
    assert c.driver.host == {}
    assert c.core.closed == [("event", None), (0x5000, 101), (0x5000, "default"), (101, None)]


def test_mapped_memory_has_two_addresses(cuda):
    c = cuda(integrated=True)
    device = CudaDevice()
    memory = device.allocate_host(8, mapped=True)
    assert (memory.address, memory.mapped) == (0x7000, True)
    assert ("cuMemHostAlloc", 8, 3) in c.driver.calls
    device.free(memory, 101)
    assert c.driver.host == {}
    c.driver.fails = {"cuMemHostGetDevicePointer": Result.CUDA_ERROR_INVALID_VALUE}
    with pytest.raises(BackendError):
        device.allocate_host(8, mapped=True)
    assert c.driver.host == {}


def test_graphs(cuda):
    c = cuda()
    device = CudaDevice()
    c.driver.calls.clear()
    device.begin_capture(101)
    graph = device.end_capture(101)
    device.launch(graph, 101)
    device.end_graph(graph)
    assert c.driver.calls == [
        ("cuStreamBeginCapture", 101, "thread local"),
        ("cuStreamEndCapture", 101),
        ("cuGraphInstantiate", "captured", 0),
        ("cuGraphDestroy", "captured"),
        ("cuGraphLaunch", 33, 101),
        ("cuGraphExecDestroy", 33),
    ]


def test_errors_are_sentences_with_cudas_words(cuda):
    c = cuda()
    device = CudaDevice()
    c.driver.fails = {"cuMemHostAlloc": Result.CUDA_ERROR_OUT_OF_MEMORY}
    with pytest.raises(BackendError, match=r"CUDA failed in cuMemHostAlloc: CUDA_ERROR_OUT_OF_MEMORY; .*CPU\.$"):
        device.allocate_host(8, mapped=False)
    stream = device.new_stream()
    c.core.broken = RuntimeError("CUDA_ERROR_UNKNOWN:\n something.")
    with pytest.raises(BackendError, match=r"CUDA failed in allocate: CUDA_ERROR_UNKNOWN: something; "):
        device.allocate(8, stream)


def test_taking_back_raises_nothing(cuda):
    c = cuda()
    device = CudaDevice()
    memory = device.allocate_host(8, mapped=False)
    c.driver.fails = {"cuMemFreeHost": Result.CUDA_ERROR_INVALID_VALUE, "cuGraphExecDestroy": Result.CUDA_ERROR_INVALID_VALUE}
    device.free(memory, 101)
    device.end_graph(33)
    assert [call[0] for call in c.driver.calls[-2:]] == ["cuMemFreeHost", "cuGraphExecDestroy"]


def test_whose_memory_is_taken(cuda):
    c = cuda()
    device = CudaDevice()
    device.check_address(1)
    c.driver.attributes["context"] = None  # of a pool
    device.check_address(1)
    c.driver.attributes["context"] = OTHER
    with pytest.raises(BackendError, match=r"another CUDA context .*pycuda\.autoprimaryctx"):
        device.check_address(1)
    c.driver.attributes["ordinal"] = 1
    with pytest.raises(BackendError, match="lies on GPU 1"):
        device.check_address(1)
    c.driver.fails = {"cuPointerGetAttribute": Result.CUDA_ERROR_INVALID_VALUE}
    with pytest.raises(BackendError, match="no memory of a GPU"):
        device.check_address(1)


@pytest.mark.parametrize("name", ["cuda.core", "cuda.bindings", "cuda.bindings.driver"])
def test_without_cuda_python(name, cuda, monkeypatch):
    cuda()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match=r"needs cuda-python; install it with: pip install ") as caught:
        CudaDevice()
    assert str(caught.value).endswith("pip install 'cuda-core>=0.5,<2' 'cuda-bindings>=12.6,<14'")


def test_a_cuda_core_that_is_too_old(cuda, monkeypatch):
    cuda()
    monkeypatch.setitem(sys.modules, "cuda.core", ModuleType("cuda.core"))  # 0.3.2 has nothing but its version
    with pytest.raises(BackendError, match="needs cuda-python; install it with: ") as caught:
        CudaDevice()
    assert str(caught.value).endswith(cuda_device.INSTALL)


def test_bindings_newer_than_the_driver(cuda):
    cuda(bindings="13.0.1")
    with pytest.raises(BackendError, match=r"cuda-bindings 13\.0\.1 is newer than the driver, which runs CUDA 12\.6; .*cuda-bindings<13'"):
        CudaDevice()


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="cuda-python is not installed")
def test_the_real_driver_bindings_have_all_that_is_called():
    driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    source = Path(cuda_device.__file__).read_text()
    called = {part.split('"')[0] for part in source.split('_call("')[1:]}
    assert len(called) > 15
    assert [name for name in called if not hasattr(driver, name)] == []
    for name in ("CU_MEMHOSTALLOC_PORTABLE", "CU_MEMHOSTALLOC_DEVICEMAP"):
        assert isinstance(getattr(driver, name), int)
    assert driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    assert driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_CONTEXT


def test_the_real_cuda_core_has_all_that_is_called():
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    for owner, names in (
        (core.Device, ("allocate", "create_stream", "create_event", "default_stream", "name", "properties", "set_current")),
        (core.Stream, ("close", "handle")),
        (core.Event, ("close", "handle")),
        (core.Buffer, ("close", "handle")),
    ):
        assert [name for name in names if not hasattr(owner, name)] == []
    assert core.StreamOptions(nonblocking=True).nonblocking


def test_the_real_one_without_a_gpu_is_a_backend_error():
    pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    program = "from keyposs_trt.engine.cuda_device import CudaDevice\nCudaDevice()"
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # the driver looks at it once a process
    done = subprocess.run([sys.executable, "-c", program], env=hidden, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("keyposs_trt.errors.BackendError: CUDA failed in Device")
