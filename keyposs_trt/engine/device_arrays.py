"""Arrays on the GPU, given and taken without copies: ``__cuda_array_interface__`` and DLPack, and the streams of other libraries."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine import dlpack
from keyposs_trt.engine.device import LEGACY_STREAM
from keyposs_trt.errors import BackendError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyposs_trt.engine.device import Device, Memory

_INTERFACE_VERSION = 3
_HANDLES = ("cuda_stream", "ptr", "handle")  # of PyTorch, CuPy and PyCUDA


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Somebody's array on the GPU.

    Attributes:
        address: of its first element.
        shape: its shape.
        strides: bytes from one element to the next, for each index.
        dtype: type of its elements.
        stream: handle of the stream in which they are ready.
        owner: what keeps them alive.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int
    owner: object

    @property
    def contiguous(self) -> bool:
        """Whether there are no gaps."""
        wanted = dlpack.contiguous_strides(self.shape, self.dtype.itemsize)
        return all(n == 1 or s == w for n, s, w in zip(self.shape, self.strides, wanted, strict=True))


def is_device_array(array: object) -> bool:
    """Whether something is an array on a GPU, by one of the two protocols."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    return hasattr(array, "__dlpack_device__") and _dlpack_device(array) in (dlpack.CUDA, dlpack.CUDA_MANAGED)


def view_of(array: Any) -> View:
    """Looks at an array on the GPU through DLPack, or else through ``__cuda_array_interface__``.

    With DLPack, its library orders its work before the default stream. An array that names no stream counts as ready in that one, too.

    Raises:
        UsageError: it lies in the CPU's memory, or has neither protocol.
    """
    if isinstance(array, DeviceArray):
        strides = dlpack.contiguous_strides(array.shape, array.dtype.itemsize)
        return View(array.address, array.shape, strides, array.dtype, array.stream or LEGACY_STREAM, array)
    if hasattr(array, "__dlpack_device__") and _dlpack_device(array) in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        capsule = array.__dlpack__(stream=LEGACY_STREAM)
        return View(*dlpack.read_capsule(capsule), LEGACY_STREAM, (array, capsule))
    if not hasattr(array, "__cuda_array_interface__"):
        raise UsageError(
            f"{type(array).__name__} is no array on the GPU; give one that has __cuda_array_interface__ or __dlpack__ there, "
            "such as a PyTorch tensor after .cuda()."
        )
    interface = array.__cuda_array_interface__
    dtype = np.dtype(interface["typestr"])
    shape = tuple(interface["shape"])
    strides = tuple(interface.get("strides") or dlpack.contiguous_strides(shape, dtype.itemsize))
    return View(int(interface["data"][0] or 0), shape, strides, dtype, int(interface.get("stream") or LEGACY_STREAM), array)


def stream_handle(stream: Any) -> int:
    """Handle of a stream: a number, an object with ``__cuda_stream__``, or a stream of PyTorch, CuPy or PyCUDA.

    Raises:
        UsageError: it is none of them.
    """
    if type(stream) is int and stream >= 0:
        return stream or LEGACY_STREAM
    ask = getattr(stream, "__cuda_stream__", None)
    if ask is not None:
        return int(ask()[1]) or LEGACY_STREAM
    for name in _HANDLES:
        handle = getattr(stream, name, None)
        if handle is not None:
            return int(handle) or LEGACY_STREAM
    raise UsageError(
        f"{type(stream).__name__} is no CUDA stream; give its handle as a number, or a stream of PyTorch, CuPy, PyCUDA or cuda.core."
    )


class Held:
    """A block of results, which goes back to the GPU when no array is left that looks at it."""

    def __init__(self, memory: Memory, stream: int | None, results: ResultMemory, user: object) -> None:
        self.memory = memory
        self.user = user  # somebody's stream, which must not end before its handle was used the last time
        self.stream = stream  # in which it is ready; None where it is
        self.lent = stream is None  # to users who keep to no stream that is known here
        self.results = results

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.results.let_go(self.memory, None if self.lent else self.stream)


class DeviceArray:
    """A contiguous array on the GPU; every library that takes ``__cuda_array_interface__`` or DLPack sees it without a copy.

        torch.from_dlpack(array); cupy.asarray(array)

    Attributes:
        address: of its first element.
        shape: its shape.
        dtype: type of its elements.
        stream: handle of the stream in which it is ready; None where it is ready.
    """

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], held: Held) -> None:
        self.address = address
        self.shape = shape
        self.dtype = dtype
        self.stream = held.stream
        self._held = held

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": self.stream,
            "version": _INTERFACE_VERSION,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, 0

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,  # whichever is newest: all read the old one
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A capsule, for the consumer's stream; -1 for one that waits for nothing.

        Raises:
            BufferError: a copy, or another device, was asked for.
        """
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("The results stay where they are, on GPU 0; copy them with the library that takes them.")
        consumer = stream or LEGACY_STREAM
        if stream != -1 and consumer != self.stream:
            self._held.results.lend(self._held, consumer)
        return dlpack.capsule_of(self.address, self.shape, self.dtype, self.__dlpack_device__(), self._held)


@dataclass(frozen=True, slots=True, eq=False)
class DeviceOutputs:
    """What a runner gives for N crops, on the GPU; see ``keyposs_trt.engine.runner.Outputs``.

    The arrays have memory of their own, which later calls leave alone and which lives as long as anybody looks at it.

    Attributes:
        landmarks: [N, L, 2] float32, crop pixels.
        scores: [N, L] float32 in [0, 1].
        covariance: [N, L, 3] float32, xx, xy, yy in crop pixels squared.
    """

    landmarks: DeviceArray
    scores: DeviceArray
    covariance: DeviceArray

    def __len__(self) -> int:
        return self.landmarks.shape[0]


class ResultMemory:
    """Blocks for results that stay on the GPU; each is freed once, after its last user, also where that outlives the runner."""

    def __init__(self, device: Device, stream: int) -> None:
        self._device = device
        self._stream = stream
        self._lock = RLock()  # a block may be let go at any moment, also inside these methods
        self._gone: deque[tuple[Memory, int | None]] = deque()
        self._open = True

    def take(self, size: int, stream: int | None, user: object) -> Held:
        """A block for results in the order of somebody's stream, by its handle and as an object; None where the caller waits for them."""
        self._collect(stream)
        return Held(self._device.allocate(size, self._stream), stream, self, user)

    def lend(self, held: Held, consumer: int) -> None:
        """Another stream than the one agreed on will read a block."""
        held.lent = True
        if held.stream is not None:
            with self._device.current():
                self._device.follow(consumer, held.stream)

    def let_go(self, memory: Memory, stream: int | None) -> None:
        """Nobody holds a block any more. Calls nothing of CUDA while the runner is open: this thread may be writing down a graph."""
        with self._lock:
            if self._open:
                self._gone.append((memory, stream))
                return
        with suppress(BackendError), self._device.current():
            self._wait(self._device.synchronise_all)
            self._device.free(memory, None)

    def close(self) -> None:
        """The runner ends: frees what was let go, once everything is done; what is still held is freed as it is let go."""
        with self._lock:
            self._open = False
        if self._gone:
            self._wait(self._device.synchronise_all)
        while self._gone:
            self._device.free(self._gone.popleft()[0], self._stream)

    def _collect(self, stream: int | None) -> None:
        """Frees what was let go. What comes in the runner's stream waits for ``stream`` already; users of others are waited for."""
        gone = [self._gone.popleft() for _ in range(len(self._gone))]
        try:
            if any(used_in is None or used_in != stream for _, used_in in gone):
                self._device.synchronise_all()
        finally:
            for memory, _ in gone:
                self._device.free(memory, self._stream)

    def _wait(self, wait: Callable[[], None]) -> None:
        with suppress(BackendError):  # it is to be freed all the same
            wait()


def _dlpack_device(array: Any) -> int:
    return int(array.__dlpack_device__()[0])
