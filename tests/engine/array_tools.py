"""Arrays and streams as other libraries have them, on the GPU of ``fake_device``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine import dlpack

if TYPE_CHECKING:
    from fake_device import FakeDevice


class Interface:
    """An array as of PyCUDA: ``__cuda_array_interface__`` alone."""

    def __init__(self, device: FakeDevice, array: np.ndarray, stream: int | None = None, strides: tuple[int, ...] | None = None) -> None:
        self.address = device.put(array) if array.size else 0
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (self.address, False), "version": 3, "stream": stream,
            "strides": strides,
        }  # fmt: skip


class Exchanged:
    """An array as of PyTorch: DLPack alone, with its work in a stream of its own."""

    def __init__(self, device: FakeDevice, array: np.ndarray, stream: int) -> None:
        self.device, self.array, self.stream = device, array, stream
        self.address = device.put(array)
        self.asked: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, 0

    def __dlpack__(self, *, stream: int) -> object:
        self.asked.append(stream)
        with self.device.current():
            self.device.follow(stream, self.stream)
        return dlpack.capsule_of(self.address, self.array.shape, self.array.dtype, self.__dlpack_device__(), self)


def fill_later(device: FakeDevice, address: int, values: np.ndarray, stream: int) -> None:
    """Work in a stream that writes values; until somebody waits, they are not there."""
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).copy()

    def fill() -> None:
        device.find(address, data.size)[:] = data

    with device.current():
        device.enqueue("fill", stream, fill, [], [(address, data.size)])


class CudaStream:
    """A stream as of PyTorch, CuPy, PyCUDA or cuda.core."""

    def __init__(self, handle: int, kind: str) -> None:
        if kind == "protocol":
            self.__dict__["handle_"] = handle
        else:
            setattr(self, kind, handle)

    def __getattr__(self, name: str) -> Any:
        if name == "__cuda_stream__" and "handle_" in self.__dict__:
            return lambda: (0, self.__dict__["handle_"])
        raise AttributeError(name)
