"""TensorRT that is not there, on the GPU of ``fake_device``: plans whose results tell which crop they are of."""

from __future__ import annotations

import enum
import hashlib
import sys
import weakref
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from fake_device import FakeDevice
from model_zoo import tiny_spec

from keyposs_trt.engine import manifest as manifest_module
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.manifest import Manifest, this_platform, write_plan
from keyposs_trt.engine.tensorrt_runner import TensorRTRunner
from keyposs_trt.graph.contract import PLUGIN_NAME

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from keyposs_trt.graph.contract import ModelSpec

SIZE, POINTS, MAPS = 16, 3, 8
PLAN = b"a plan"
SCRATCH = 1000
ORIN = Driver("12.6", (Gpu("Orin", (8, 7)),))
_TYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}


class Strategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class Specialisation(enum.Enum):
    LAZY = 0
    EAGER = 1


@dataclass(eq=False)
class Happenings:
    """What TensorRT was told, and what it is to do wrong.

    Attributes:
        calls: number of crops of each plain run.
        captured: of each run that was written down.
        ends: what went, in order: context, engine, runtime.
        contexts: number made.
        fail: nothing runs.
        fail_captured: nothing can be written down.
        capturable: what a context answers.
        no_context: number of contexts after which there are no more.
        cache: what was compiled so far, of TensorRT-RTX.
        eager: number of contexts for one shape.
    """

    calls: list[int] = field(default_factory=list)
    captured: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    contexts: int = 0
    fail: bool = False
    fail_captured: bool = False
    capturable: bool = True
    no_context: int = 1 << 30
    caches: list[Cache] = field(default_factory=list)
    eager: int = 0


class Context:
    """Gives each crop's mean; it does not forgive what TensorRT does not forgive."""

    def __init__(self, tensors: dict[str, Any], batch: tuple[int, int, int], device: FakeDevice, happened: Happenings) -> None:
        self.tensors, self.batch, self.device, self.happened = tensors, batch, device, happened
        self.addresses: dict[str, int] = {}
        self.count = 0
        self.scratch: tuple[int, int] | None = None
        self.ran: object = None
        self.captured = False
        self.running = False
        weakref.finalize(self, happened.ends.append, "context").atexit = False

    def set_device_memory(self, address: int, size: int) -> None:
        self.device.find(address, size)
        assert size >= SCRATCH
        assert address % 256 == 0
        self.scratch = address, size

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert not self.captured, "a context that a graph was made of must not change"
        assert address % 256 == 0
        self.addresses[name] = address
        return not self.device.fails("set_tensor_address")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert not self.captured, "a context that a graph was made of must not change"
        assert (name, shape[1:]) == ("image", (SIZE, SIZE, 3))
        self.count = shape[0]
        return self.batch[0] <= shape[0] <= self.batch[2] and not self.device.fails("set_input_shape")

    def execute_async_v3(self, stream: int) -> bool:
        assert not self.running, "two threads in one context"
        assert set(self.addresses) == set(self.tensors)
        assert self.scratch is not None
        self.running = True
        state = self.count, dict(self.addresses)
        capturing = self.device.capturing(stream)
        try:
            if capturing:
                assert self.ran == state, "TensorRT wants to run once before it is captured"
                self.captured = True
                self.happened.captured.append(self.count)
                if self.happened.fail_captured:
                    self.device.spoil()
                    return False
            else:
                self.ran = state
                self.happened.calls.append(self.count)
            if self.happened.fail or self.device.fails("execute"):
                return False
            spans = {n: (a, self.count * self._row(n)) for n, a in self.addresses.items()}
            outputs = [s for n, s in spans.items() if n != "image"]
            self.device.enqueue("network", stream, lambda: self._compute(*state), [spans["image"]], [self.scratch, *outputs])
            return True
        finally:
            self.running = False

    def _row(self, name: str) -> int:
        kind, shape = self.tensors[name]
        return int(np.prod(shape)) * np.dtype(_TYPES[kind]).itemsize

    def _compute(self, count: int, addresses: dict[str, int]) -> None:
        """Means of the crops, as landmarks, scores and covariance; or maps with a peak of that height at (5, 3)."""
        self.device.find(*self.scratch)[:] = 0
        means = self.device.get(addresses["image"], (count, SIZE, SIZE, 3), np.uint8).mean((1, 2, 3))
        for name, (kind, shape) in self.tensors.items():
            if name != "image":
                out = self.device.find(addresses[name], count * self._row(name)).view(_TYPES[kind]).reshape(count, *shape)
                out[:] = 0 if kind == "HALF" else means.reshape(-1, *[1] * len(shape))
                if kind == "HALF":
                    out[:, :, 3, 5] = (means / 255)[:, None]


class StreamTeller(Context):
    """A context of TensorRT-RTX, which says what it can."""

    def is_stream_capturable(self, stream: int) -> bool:
        assert stream in self.device.streams
        return self.happened.capturable


class Cache:
    """A runtime cache; what it holds is one byte a compiled batch size."""

    def __init__(self, happened: Happenings) -> None:
        self.content = b""
        happened.caches.append(self)

    def deserialize(self, content: bytes) -> bool:
        good = content.startswith(b"kernels")
        self.content = content if good else b""
        return good

    def serialize(self) -> bytes:
        return self.content or b"kernels of this GPU"


class Config(SimpleNamespace):
    """IRuntimeConfig."""

    strategy: Any = Strategy.STATIC
    dynamic_shapes_kernel_specialization_strategy: Any = Specialisation.LAZY
    cache: Cache | None = None

    def set_execution_context_allocation_strategy(self, strategy: Strategy) -> None:
        self.strategy = strategy

    def set_runtime_cache(self, cache: Cache) -> bool:
        self.cache = cache
        return True

    def create_runtime_cache(self) -> Cache:
        return Cache(self.happened)


class Engine:
    """ICudaEngine."""

    device_memory_size_v2 = SCRATCH

    def __init__(self, tensors: dict[str, Any], batch: tuple[int, int, int], device: FakeDevice, happened: Happenings, rtx: bool) -> None:
        self.tensors, self.batch, self.device, self.happened = tensors, batch, device, happened
        self.num_io_tensors = len(tensors)
        weakref.finalize(self, happened.ends.append, "engine").atexit = False
        if rtx:
            self.create_runtime_config = lambda: Config(happened=happened)

    def create_execution_context(self, how: Any) -> Context | None:
        self.happened.contexts += 1
        if self.happened.contexts > self.happened.no_context or self.device.fails("create_execution_context"):
            return None
        if isinstance(how, Config):
            assert how.cache is self.happened.caches[-1]
            self.happened.eager += how.dynamic_shapes_kernel_specialization_strategy is Specialisation.EAGER
            assert how.strategy is Strategy.USER_MANAGED
            return StreamTeller(self.tensors, self.batch, self.device, self.happened)
        assert how is Strategy.USER_MANAGED
        return Context(self.tensors, self.batch, self.device, self.happened)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self.tensors[name][1])

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.tensors[name][0])


class Registry:
    """TensorRT's plugin registry."""

    def __init__(self) -> None:
        self.all_creators: list[Any] = []

    def load_library(self, path: str) -> object:
        assert self.all_creators == []
        self.all_creators.append(SimpleNamespace(name=PLUGIN_NAME, plugin_version="1", plugin_namespace=""))
        return object()


@dataclass(eq=False)
class Machine:
    """A plan on a machine with a fake GPU and a fake TensorRT.

    Attributes:
        tensors: of the engine; may be changed before a runner is opened.
        users_streams: those that a test made for itself.
    """

    path: Path
    device: FakeDevice
    happened: Happenings
    tensors: dict[str, Any]
    users_streams: list[int] = field(default_factory=list)

    def open(self, **options: Any) -> TensorRTRunner:
        return TensorRTRunner(self.path, device=self.device, **options)

    def end_users_streams(self) -> None:
        while self.users_streams:
            self.device.end_stream(self.users_streams.pop())


def crops(count: int, start: int = 0) -> np.ndarray:
    """Crop i is filled with start + 10 i."""
    values = (start + 10 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, SIZE, SIZE, 3))


def make_machine(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    batch: tuple[int, int, int] = (1, 2, 4),
    decoder: str = "wls",
    heatmap_type: str = "HALF",
    loads: bool = True,
    rtx: bool = False,
    driver: Driver = ORIN,
    device: FakeDevice | None = None,
) -> Machine:
    """Puts a TensorRT into place and writes a plan for it."""
    device = device or FakeDevice()
    spec: ModelSpec = tiny_spec(points=POINTS, heatmap_size=MAPS, input_size=SIZE, decoder=decoder)
    tensors: dict[str, Any] = {"image": ("UINT8", (SIZE, SIZE, 3))}
    if decoder == "none":
        tensors["heatmaps"] = (heatmap_type, (POINTS, MAPS, MAPS))
    else:
        tensors |= {"landmarks": ("FLOAT", (POINTS, 2)), "scores": ("FLOAT", (POINTS,)), "covariance": ("FLOAT", (POINTS, 3))}
    happened = Happenings()
    registry = Registry()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger
            weakref.finalize(self, happened.ends.append, "runtime").atexit = False

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            assert plan == PLAN
            assert bool(registry.all_creators) == (decoder == "plugin")
            self.logger.log(2, "a warning")
            if not loads:
                self.logger.log(1, "Magic tag\ndoes not match")
            return Engine(tensors, batch, device, happened, rtx) if loads and not device.fails("deserialize") else None

    name = "tensorrt_rtx" if rtx else "tensorrt"
    trt = ModuleType(name)
    trt.__dict__.update(
        __version__="10.3.0",
        Runtime=Runtime,
        ILogger=object,
        ExecutionContextAllocationStrategy=Strategy,
        DynamicShapesKernelSpecializationStrategy=Specialisation,
        get_plugin_registry=lambda: registry,
    )
    monkeypatch.setitem(sys.modules, name, trt)
    monkeypatch.setattr(manifest_module, "query_driver", lambda: driver)
    monkeypatch.setattr(manifest_module, "current_gpu", lambda: driver.gpus[0] if driver.gpus else None)
    if decoder == "plugin":
        library = folder / "plugin.so"
        library.write_bytes(b"a library")
        monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", str(library))
    path = folder / "tiny_fp16_tensorrt.plan"
    values: dict[str, Any] = {
        "model": "face68-32", "onnx_sha256": "", "plan": path.name, "plan_sha256": hashlib.sha256(PLAN).hexdigest(),
        "plan_bytes": len(PLAN), "spec": spec, "precision": "fp16", "precision_found": "fp16", "layers": {},
        "runtime": "tensorrt-rtx" if rtx else "tensorrt", "runtime_version": "10.3.0", "cuda": "12.6", "platform": this_platform(),
        "gpu": "Orin", "targets": ("sm87",), "batch": batch, "workspace": None, "tool": "", "created": "", "build_seconds": 1.0,
        "plugin": {"name": PLUGIN_NAME, "version": "1", "sha256": ""} if decoder == "plugin" else None,
    }  # fmt: skip
    write_plan(path, PLAN, Manifest(**values))
    return Machine(path, device, happened, tensors)
