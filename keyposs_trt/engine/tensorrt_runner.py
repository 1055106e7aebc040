"""Runs plans of TensorRT and TensorRT-RTX: one runner for both, since their execution API is the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine.cuda_runtime import CudaRuntime
from keyposs_trt.engine.log import Log
from keyposs_trt.engine.manifest import open_plan, require_gpu
from keyposs_trt.engine.plugin_library import load_library
from keyposs_trt.engine.precision import FP16, FP32, precision_name
from keyposs_trt.engine.runner import Outputs, check_crops, decode_heatmaps, empty_outputs
from keyposs_trt.engine.versions import load_backend
from keyposs_trt.errors import BackendError, ModelError, UsageError
from keyposs_trt.graph.contract import HEATMAPS, INPUT

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from numpy.typing import NDArray

    from keyposs_trt.engine.manifest import Manifest
    from keyposs_trt.graph.contract import ModelSpec

_TYPES: dict[str, type[np.generic]] = {FP32: np.float32, FP16: np.float16, "uint8": np.uint8}


@dataclass(frozen=True)
class _Tensor:
    """One input or output on the device: [max batch, *shape] of ``dtype`` at ``address``."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int


class TensorRTRunner:
    """One plan on the first GPU, see ``keyposs_trt.engine.runner.Runner``.

    Device memory is taken once, for the plan's largest batch; larger calls are cut into pieces of that size, and smaller ones than
    its smallest batch are filled up. Calls from several threads wait for each other.

    Args:
        path: a plan with its manifest beside it.
        backend: ``auto`` or the runtime the manifest names.

    Raises:
        UsageError: another backend than the plan's.
        InputError, ModelError: see ``keyposs_trt.engine.manifest.open_plan``.
        BackendError: the runtime, cuda-python or a GPU is missing, or the plan does not start.
    """

    def __init__(self, path: str | os.PathLike[str], backend: str = "auto") -> None:
        manifest, plan = open_plan(path)
        if backend not in ("auto", manifest.runtime):
            raise UsageError(f"'{path}' is a {manifest.runtime} engine, not one of {backend}; use the backend {manifest.runtime} or auto.")
        require_gpu(path, manifest)
        self._path = path
        self._manifest = manifest
        self._lock = Lock()
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._cuda = CudaRuntime()
        try:
            self._load(plan)
        except BaseException:
            self.close()
            raise

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself."""
        return self._manifest.spec

    @property
    def backend(self) -> str:
        """``tensorrt`` or ``tensorrt-rtx``."""
        return self._manifest.runtime

    @property
    def manifest(self) -> Manifest:
        """What the plan was built from and for."""
        return self._manifest

    def __call__(self, crops: NDArray[np.uint8]) -> Outputs:
        """Runs the plan on crops [N, S, S, 3] uint8 RGB; N may be 0 and larger than the plan's largest batch."""
        return self._call(crops, None)

    def in_steps(self, crops: NDArray[np.uint8], lap: Callable[[str], object]) -> Outputs:
        """As a call, but step by step, see ``keyposs_trt.engine.runner.StepRunner``."""
        return self._call(crops, lap)

    def _call(self, crops: NDArray[np.uint8], lap: Callable[[str], object] | None) -> Outputs:
        crops = check_crops(crops, self.spec)
        if not len(crops):
            return empty_outputs(self.spec)
        largest = self._manifest.batch[2]
        with self._lock:
            if self._context is None:
                raise BackendError(f"The runner of '{self._path}' is closed; open the engine again.")
            parts = [self._run(crops[i : i + largest], lap) for i in range(0, len(crops), largest)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in self.spec.outputs}
        return decode_heatmaps(whole[HEATMAPS], self.spec) if HEATMAPS in whole else Outputs(**whole)

    def close(self) -> None:
        """Frees the engine and its device memory; twice does no harm."""
        with self._lock:
            # TensorRT wants the context gone before the engine, and the engine before its runtime.
            self._context = None
            self._engine = None
            self._runtime = None
            self._cuda.close()

    def __enter__(self) -> TensorRTRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _load(self, plan: bytes) -> None:
        backend = load_backend(self._manifest.runtime)
        self._log = Log(backend)  # TensorRT keeps a bare pointer to the logger
        self._runtime = backend.trt.Runtime(self._log.logger)
        if self._manifest.plugin is not None:
            if "version" in self._manifest.compatibility:
                self._runtime.engine_host_code_allowed = True  # the plan holds the library itself
            else:
                load_library(backend, self._log)
        engine: Any = self._runtime.deserialize_cuda_engine(plan)
        context: Any = None if engine is None else engine.create_execution_context()
        if engine is None or context is None:
            again = self._manifest.rebuild_command(Path(self._path).parent)
            raise BackendError(f"{backend.title} cannot load '{self._path}': {self._log.reason}; build it again here: {again}")
        self._engine, self._context = engine, context
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        tensors = {name: self._tensor(name) for name in names}
        if set(tensors) != {INPUT, *self.spec.outputs}:
            raise ModelError(f"'{self._path}' has the tensors {', '.join(tensors)}, not those its manifest promises; build it again.")
        self._tensors = tensors

    def _tensor(self, name: str) -> _Tensor:
        """Takes device memory for a tensor at the largest batch and tells TensorRT of it."""
        shape = tuple(self._engine.get_tensor_shape(name))[1:]
        data_type = precision_name(self._engine.get_tensor_dtype(name))
        if data_type not in _TYPES:
            raise ModelError(f"The engine's tensor '{name}' is of type {data_type}, which no model of this toolkit has; build it again.")
        dtype = np.dtype(_TYPES[data_type])
        address = self._cuda.allocate(self._manifest.batch[2] * int(np.prod(shape)) * dtype.itemsize)
        self._context.set_tensor_address(name, address)
        return _Tensor(name, shape, dtype, address)

    def _run(self, crops: NDArray[np.uint8], lap: Callable[[str], object] | None) -> dict[str, NDArray[Any]]:
        """At most one largest batch; float32 outputs by name."""
        count = len(crops)
        missing = self._manifest.batch[0] - count
        if missing > 0:
            crops = np.concatenate([crops, np.zeros((missing, *crops.shape[1:]), crops.dtype)])
        image = self._tensors[INPUT]
        if not self._context.set_input_shape(INPUT, crops.shape):
            raise BackendError(f"The engine takes no batch of {len(crops)}: {self._log.reason}.")
        self._cuda.upload(image.address, crops)
        self._end_step("copy in", lap)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise BackendError(f"The engine failed: {self._log.reason}; run the ONNX model on the CPU to compare.")
        self._end_step("network", lap)
        found = {}
        for name in self.spec.outputs:
            tensor = self._tensors[name]
            found[name] = np.empty((len(crops), *tensor.shape), tensor.dtype)
            self._cuda.download(found[name], tensor.address)
        self._cuda.synchronise()
        if lap is not None:
            lap("copy out")
        return {name: array[:count].astype(np.float32, copy=False) for name, array in found.items()}

    def _end_step(self, name: str, lap: Callable[[str], object] | None) -> None:
        """Tells that a step is over, once the device has done it; without somebody to tell, nobody waits for it."""
        if lap is not None:
            self._cuda.synchronise()
            lap(name)
