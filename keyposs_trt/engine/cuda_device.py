"""The first GPU through cuda-python: cuda.core, and the driver's own calls for what that lacks (page-locked and mapped memory, graphs).

Everything is made in the device's primary context, which TensorRT, PyTorch and CuPy use too.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine.device import LEGACY_STREAM, Memory
from keyposs_trt.engine.gpu import query_driver
from keyposs_trt.engine.versions import version_numbers
from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Of the extra "gpu"; doctor says the same.
OLDEST = {"cuda-core": "0.5", "cuda-bindings": "12.6"}
INSTALL = f"pip install 'cuda-core>={OLDEST['cuda-core']},<2' 'cuda-bindings>={OLDEST['cuda-bindings']},<14'"
_ORDINAL = 0
_REMEDY = "close other programs on the GPU, or run the ONNX model on the CPU"


class CudaDevice:
    """See ``keyposs_trt.engine.device.Device``.

    Raises:
        BackendError: cuda-python is missing, too old, or newer than the driver, or CUDA does not start.
    """

    def __init__(self) -> None:
        try:
            self._core: Any = import_module("cuda.core")
            self._driver: Any = import_module("cuda.bindings.driver")
            bindings: Any = import_module("cuda.bindings")
            if not hasattr(self._core, "Device"):  # older ones have it in cuda.core.experimental
                raise ImportError("cuda.core has no Device")
        except ImportError as e:
            raise BackendError(f"Running an engine needs cuda-python; install it with: {INSTALL}") from e
        _check_driver(str(bindings.__version__))
        self._streams: dict[int, Any] = {}
        with self.current():
            gpu = self._made("Device", lambda: self._core.Device(_ORDINAL))
            self._name = str(gpu.name)
            self._integrated = bool(gpu.properties.integrated and gpu.properties.can_map_host_memory)
            self._context = int(self._call("cuCtxGetCurrent"))

    @property
    def name(self) -> str:
        """As the driver names it."""
        return self._name

    @property
    def integrated(self) -> bool:
        """Whether CPU and GPU share their memory, as on a Jetson."""
        return self._integrated

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes the primary context this thread's for a while."""
        # cuda.core keeps a device object for each thread, and starts CUDA with the first; then there is a current context to ask for.
        gpu = self._made("Device", lambda: self._core.Device(_ORDINAL))
        before = int(self._call("cuCtxGetCurrent"))
        self._made("set_current", gpu.set_current)
        try:
            yield
        finally:
            if before:
                with suppress(BackendError):
                    self._call("cuCtxSetCurrent", before)

    def new_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        options = self._core.StreamOptions(nonblocking=True)
        stream = self._made("create_stream", lambda: self._core.Device(_ORDINAL).create_stream(options=options))
        handle = int(stream.handle)
        self._streams[handle] = stream
        return handle

    def end_stream(self, stream: int) -> None:
        """Gives a stream back."""
        self._quietly(self._streams.pop(stream).close)

    def allocate(self, size: int, stream: int) -> Memory:
        """Memory of the GPU, from the device's pool where it has one."""
        own = self._streams[stream]
        buffer = self._made("allocate", lambda: self._core.Device(_ORDINAL).allocate(size, stream=own))
        return Memory(int(buffer.handle), size, block=buffer)

    def allocate_host(self, size: int, *, mapped: bool) -> Memory:
        """Page-locked memory of the CPU; ``mapped`` for the GPU to work on it."""
        flags = self._driver.CU_MEMHOSTALLOC_PORTABLE | (self._driver.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0)
        pointer = int(self._call("cuMemHostAlloc", size, flags))
        try:
            address = int(self._call("cuMemHostGetDevicePointer", pointer, 0)) if mapped else pointer
        except BackendError:
            self._quietly(lambda: self._call("cuMemFreeHost", pointer))
            raise
        return Memory(address, size, _host_view(pointer, size), mapped, pointer)

    def free(self, memory: Memory, stream: int | None) -> None:
        """Frees a block after all that is in ``stream``."""
        if memory.host is not None:
            self._quietly(lambda: self._call("cuMemFreeHost", memory.block))
        elif stream is None:
            self._quietly(lambda: memory.block.close(self._core.Device(_ORDINAL).default_stream))
        else:
            self._quietly(lambda: memory.block.close(self._streams[stream]))

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        """Copies bytes in the stream; the driver knows from the addresses which way."""
        self._call("cuMemcpyAsync", to, source, size, stream)

    def synchronise(self, stream: int) -> None:
        """Waits until everything in the stream is done."""
        self._call("cuStreamSynchronize", stream)

    def synchronise_all(self) -> None:
        """Waits until everything in the context is done."""
        self._call("cuCtxSynchronize")

    def follow(self, stream: int, other: int) -> None:
        """Lets what comes in ``stream`` wait for all that is in ``other`` now."""
        event = self._made("create_event", lambda: self._core.Device(_ORDINAL).create_event())
        try:
            self._call("cuEventRecord", event.handle, other or LEGACY_STREAM)
            self._call("cuStreamWaitEvent", stream or LEGACY_STREAM, event.handle, 0)
        finally:
            self._quietly(event.close)  # CUDA keeps it until it has come

    def begin_capture(self, stream: int) -> None:
        """From now on, this thread's calls in the stream are written down; other threads go on as they like."""
        self._call("cuStreamBeginCapture", stream, self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Ends that and makes the graph ready to launch."""
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return int(self._call("cuGraphInstantiate", graph, 0))
        finally:
            self._quietly(lambda: self._call("cuGraphDestroy", graph))

    def launch(self, graph: int, stream: int) -> None:
        """Does in the stream what the graph holds."""
        self._call("cuGraphLaunch", graph, stream)

    def end_graph(self, graph: int) -> None:
        """Gives a graph back."""
        self._quietly(lambda: self._call("cuGraphExecDestroy", graph))

    def check_address(self, address: int) -> None:
        """Makes sure that somebody's memory can be worked on here; memory of pools tells no context, and is let pass."""
        attribute = self._driver.CUpointer_attribute
        try:
            ordinal = int(self._call("cuPointerGetAttribute", attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address))
        except BackendError as e:
            raise BackendError(f"The address {address:#x} is no memory of a GPU; give an array that lies on the device.") from e
        if ordinal != _ORDINAL:
            raise BackendError(f"The array lies on GPU {ordinal}, and the engine runs on GPU {_ORDINAL}; copy it there.")
        context = 0
        with suppress(BackendError):
            context = int(self._call("cuPointerGetAttribute", attribute.CU_POINTER_ATTRIBUTE_CONTEXT, address) or 0)
        if context not in (0, self._context):
            raise BackendError(
                "The array was made in another CUDA context than the device's primary one, in which engines run; "
                "with PyCUDA, import pycuda.autoprimaryctx instead of pycuda.autoinit."
            )

    def _made(self, name: str, make: Callable[[], Any]) -> Any:
        """What a call of cuda.core gives; it has exceptions of its own, which are not all public."""
        try:
            return make()
        except Exception as e:
            raise BackendError(f"CUDA failed in {name}: {_line(str(e) or type(e).__name__)}; {_REMEDY}.") from e

    def _call(self, name: str, *arguments: Any) -> Any:
        """What a function of the driver gives."""
        code, *values = self._made(name, lambda: getattr(self._driver, name)(*arguments))
        if code != self._driver.CUresult.CUDA_SUCCESS:
            _, text = self._driver.cuGetErrorString(code)
            text = text.decode(errors="replace") if isinstance(text, bytes) else str(text or code)
            raise BackendError(f"CUDA failed in {name}: {text}; {_REMEDY}.")
        return values[0] if values else None

    def _quietly(self, end: Callable[[], object]) -> None:
        """Takes something back."""
        with suppress(BackendError):
            self._made("taking back", end)


def _check_driver(bindings: str) -> None:
    """Bindings of a newer CUDA than the driver's start, and then lack functions.

    Raises:
        BackendError: they are newer.
    """
    cuda = query_driver().cuda
    if cuda is not None and version_numbers(bindings)[:1] > version_numbers(cuda)[:1]:
        major = version_numbers(cuda)[0]
        raise BackendError(
            f"cuda-bindings {bindings} is newer than the driver, which runs CUDA {cuda}; update the driver, or install the bindings of "
            f"its CUDA: pip install 'cuda-bindings<{major + 1}'"
        )


def _host_view(pointer: int, size: int) -> Any:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
