"""The calls of the CUDA runtime a runner needs, through cuda-python; one that fails is an exception, but in ``close``."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CudaRuntime:
    """A stream and device memory, freed by ``close``.

    Raises:
        BackendError: cuda-python is missing, or CUDA does not start.
    """

    def __init__(self) -> None:
        try:
            self._runtime: Any = import_module("cuda.bindings.runtime")
        except ImportError as e:
            raise BackendError("Running an engine needs cuda-python; install it with: pip install 'cuda-bindings<14'") from e
        self._blocks: list[Any] = []
        self._stream: Any = self._call("cudaStreamCreate")

    @property
    def stream(self) -> int:
        """Handle of the stream, as TensorRT takes it."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        """Device address of a new block of ``size`` bytes."""
        block = self._call("cudaMalloc", size)
        self._blocks.append(block)
        return int(block)

    def upload(self, address: int, array: NDArray[np.generic]) -> None:
        """Copies a contiguous array to the device, in the stream; the array must live until ``synchronise``."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self._stream)

    def download(self, array: NDArray[np.generic], address: int) -> None:
        """Fills a contiguous array from the device, in the stream; it is filled after ``synchronise``."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self._stream)

    def synchronise(self) -> None:
        """Waits until everything in the stream is done."""
        self._call("cudaStreamSynchronize", self._stream)

    def close(self) -> None:
        """Frees memory and stream; twice does no harm.

        Raises nothing: where freeing fails, CUDA failed before, and that is the error to tell.
        """
        blocks, self._blocks = self._blocks, []
        for block in blocks:
            with suppress(BackendError):
                self._call("cudaFree", block)
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(BackendError):
                self._call("cudaStreamDestroy", stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        code, *values = getattr(self._runtime, name)(*arguments)
        if code != self._runtime.cudaError_t.cudaSuccess:
            _, text = self._runtime.cudaGetErrorString(code)
            text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
            remedy = "close other programs on the GPU, or run the ONNX model on the CPU"
            if code == self._runtime.cudaError_t.cudaErrorInsufficientDriver:
                remedy = "update the driver, or install the cuda-bindings of its CUDA (for CUDA 12: pip install 'cuda-bindings<13')"
            raise BackendError(f"CUDA failed in {name}: {text}; {remedy}.")
        return values[0] if values else None
