"""Memory of one runner: pairs of page-locked and device memory, or one mapped block for both where CPU and GPU share theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.engine.device import Device, Memory


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The same bytes twice.

    Attributes:
        device: for the GPU.
        host: for the CPU, page-locked; the same block where it is mapped.
    """

    device: Memory
    host: Memory

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The first bytes, as an array of the CPU."""
        assert self.host.host is not None
        return cast("NDArray[Any]", self.host.host[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape))


class Buffers:
    """Takes memory of a GPU, and gives back what is left of it at the end.

    Args:
        device: the GPU.
        stream: where all copies are done.
    """

    def __init__(self, device: Device, stream: int) -> None:
        self._device = device
        self._stream = stream
        self._taken: dict[int, Memory] = {}

    def scratch(self, size: int) -> Memory:
        """Memory of the GPU alone."""
        return self._keep(self._device.allocate(size, self._stream))

    def pair(self, size: int) -> Pair:
        """A pair of ``size`` bytes."""
        mapped = self._device.integrated
        host = self._device.allocate_host(size, mapped=mapped)
        try:
            device = host if mapped else self.scratch(size)
        except BaseException:
            self._device.free(host, self._stream)
            raise
        return Pair(device, self._keep(host))

    def release(self, pair: Pair) -> None:
        """Gives a pair back; nothing works on it."""
        for memory in {id(m): m for m in (pair.device, pair.host)}.values():
            del self._taken[id(memory)]
            self._device.free(memory, self._stream)

    def upload(self, pair: Pair, size: int) -> None:
        """Lets the GPU see the first bytes of a pair, in the stream."""
        if not pair.host.mapped:
            self._device.copy(pair.device.address, pair.host.address, size, self._stream)

    def download(self, pair: Pair, size: int) -> None:
        """Lets the CPU see the first bytes of a pair, once the stream is done."""
        if not pair.host.mapped:
            self._device.copy(pair.host.address, pair.device.address, size, self._stream)

    def close(self) -> None:
        """Gives everything back; nothing works on it."""
        while self._taken:
            self._device.free(self._taken.popitem()[1], self._stream)

    def _keep(self, memory: Memory) -> Memory:
        self._taken[id(memory)] = memory
        return memory
