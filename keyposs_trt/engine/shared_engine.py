"""A plan once loaded, which several runners share; each has execution contexts of its own."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.log import Log
from keyposs_trt.engine.plugin_library import load_library
from keyposs_trt.engine.runtime_cache import cache_path, read_cache, write_cache
from keyposs_trt.engine.versions import load_backend
from keyposs_trt.errors import BackendError
from keyposs_trt.graph.contract import INPUT

if TYPE_CHECKING:
    import os

    from keyposs_trt.engine.manifest import Manifest

_log = logging.getLogger(__name__)


class Context:
    """An execution context; it remembers shape and addresses, since setting them again costs time and may ask for a new graph."""

    def __init__(self, context: Any, log: Log) -> None:
        self._context = context
        self._log = log
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] | None = None

    def set_address(self, name: str, address: int) -> None:
        """Where a tensor lies."""
        if self._addresses.get(name) != address:
            if not self._context.set_tensor_address(name, address):
                raise BackendError(f"The engine takes no address for its tensor '{name}': {self._log.take_reason()}.")
            self._addresses[name] = address

    def run(self, shape: tuple[int, ...], stream: int) -> None:
        """Runs on crops of a shape, in the stream.

        Raises:
            BackendError: the shape is none of the plan's, or it fails.
        """
        if self._shape != shape:
            self._shape = None
            if not self._context.set_input_shape(INPUT, shape):
                raise BackendError(f"The engine takes no batch of {shape[0]}: {self._log.take_reason()}.")
            self._shape = shape
        if not self._context.execute_async_v3(stream):
            raise BackendError(f"The engine failed: {self._log.take_reason()}; run the ONNX model on the CPU to compare.")

    def can_be_captured(self, stream: int) -> bool:
        """Whether its work can be written down in a graph; TensorRT-RTX tells, the others all can."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(stream))


class SharedEngine:
    """The engine of a plan with its runtime; the last of those who ``share`` it and ``release`` it frees both.

    Args:
        path: of the plan, for messages.
        manifest: of the plan.
        plan: its bytes.
        gpu: name of the GPU.

    Raises:
        BackendError: the runtime is missing or does not take the plan.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest, plan: bytes, gpu: str) -> None:
        self.path = path
        self.manifest = manifest
        self._lock = Lock()
        self._users = 1
        self._backend = load_backend(manifest.runtime)
        self._log = Log(self._backend)  # TensorRT keeps a bare pointer to the logger
        self._runtime: Any = self._backend.trt.Runtime(self._log.logger)
        if manifest.plugin is not None:
            if "version" in manifest.compatibility:
                self._runtime.engine_host_code_allowed = True  # the plan holds the library itself
            else:
                load_library(self._backend, self._log)
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            again = manifest.rebuild_command(Path(path).parent)
            raise BackendError(f"{self._backend.title} cannot load '{path}': {self._log.reason}; build it again here: {again}")
        self._cache: Any = None
        self._cache_path = cache_path(manifest, gpu) if self._backend.is_rtx else None
        self._cached: bytes | None = None
        if self._cache_path is not None:
            self._load_cache(self._cache_path)

    def share(self) -> SharedEngine:
        """The same for one more user.

        Raises:
            BackendError: it is freed already.
        """
        with self._lock:
            if not self._users:
                raise BackendError(f"The runner of '{self.path}' is closed; open the engine again.")
            self._users += 1
        return self

    def release(self) -> None:
        """One user less, whose contexts are gone already."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            if self._cache is not None and self._cache_path is not None:
                self._save_cache(self._cache_path)
            # TensorRT wants the engine gone before its runtime.
            self._cache = None
            self._engine = None
            self._runtime = None

    def tensors(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Shape without the batch, and TensorRT's type, of each input and output."""
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        return {name: (tuple(engine.get_tensor_shape(name))[1:], engine.get_tensor_dtype(name)) for name in names}

    @property
    def scratch(self) -> int:
        """Bytes of device memory that a context works in; contexts of one stream may share them."""
        return int(self._engine.device_memory_size_v2)

    def new_context(self, scratch: int, *, for_graph: bool = False) -> Context:
        """An execution context that works in memory given to it.

        Args:
            scratch: address of ``scratch`` bytes.
            for_graph: its shape will not change, and TensorRT-RTX is to compile for that shape at once.

        Raises:
            BackendError: it cannot be made.
        """
        strategy = self._backend.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._lock:
            context: Any = self._engine.create_execution_context(strategy if self._cache is None else self._config(strategy, for_graph))
        if context is None:
            raise BackendError(
                f"{self._backend.title} cannot make an execution context for '{self.path}': {self._log.take_reason()}; "
                "close other programs on the GPU, or build it with a smaller largest batch."
            )
        context.set_device_memory(scratch, self.scratch)
        return Context(context, self._log)

    def _config(self, strategy: Any, for_graph: bool) -> Any:
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.set_runtime_cache(self._cache)
        if for_graph:  # a graph would keep the makeshift kernels that run until the shape's own are there
            config.dynamic_shapes_kernel_specialization_strategy = self._backend.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return config

    def _load_cache(self, path: Path) -> None:
        if not hasattr(self._engine, "create_runtime_config"):  # TensorRT-RTX before 1.1
            return
        self._cache = self._engine.create_runtime_config().create_runtime_cache()
        content = read_cache(path)
        if content is not None and self._cache.deserialize(content):
            self._cached = content
        elif content is not None:
            _log.info("The runtime cache '%s' is of another driver or machine, and will be written anew.", path)

    def _save_cache(self, path: Path) -> None:
        memory = self._cache.serialize()
        content = b"" if memory is None else bytes(memory)
        if content and content != self._cached:
            write_cache(path, content)
