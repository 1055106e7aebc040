"""A GPU that is not there: it does what it is told no earlier than it must, and checks every call.

Memory has addresses that no CPU can follow. Streams are queues: what is in them is done when somebody waits for them, or when another
stream needs it. So a copy that nobody waited for leaves rubbish, an input that is overwritten too early is read as overwritten, and two
streams that should wait for each other and do not see old values.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine.device import ALIGNMENT, LEGACY_STREAM, Memory
from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUBBISH = 0xA5
_GAP = 1 << 16  # between blocks, so that what reaches over an end is found
Span = tuple  # of an address and a number of bytes


@dataclass(eq=False)
class Block:
    """Memory that was taken.

    Attributes:
        kind: device, pinned or mapped.
        freed: somebody has freed it.
        alive: it is still there: of memory freed in a stream, until that comes so far.
    """

    address: int
    data: np.ndarray
    kind: str
    freed: bool = False
    alive: bool = True


@dataclass(eq=False)
class Operation:
    """One piece of work in a stream."""

    name: str
    do: Callable[[], None]
    reads: Sequence[Span] = ()
    writes: Sequence[Span] = ()


@dataclass(eq=False)
class Capture:
    """What is being written down."""

    thread: int
    operations: list[Operation] = field(default_factory=list)
    broken: bool = False


class FakeDevice:
    """See ``keyposs_trt.engine.device.Device``.

    Args:
        integrated: as a Jetson.
        room: bytes it has.

    Attributes:
        calls: names of all calls so far, of the device and of what works on it.
        fail_at: number of the call that fails, from 1; 0 for none.
        sticky: all calls after that fail, too.
        fail: names of calls that always fail.
    """

    name = "Fake GPU 1"

    def __init__(self, *, integrated: bool = False, room: int = 1 << 30) -> None:
        self.integrated = integrated
        self.room = room
        self.calls: list[str] = []
        self.fail_at = 0
        self.sticky = False
        self.fail: set[str] = set()
        self.blocks: list[Block] = []
        self.streams: dict[int, deque[Operation]] = {LEGACY_STREAM: deque()}
        self.graphs: dict[int, list[Operation]] = {}
        self.foreign: set[int] = set()  # addresses of other contexts
        self._captures: dict[int, Capture] = {}  # stream -> what is being written down there
        self._handle = 100
        self._next = 0x7F00_0000_0000
        self._lock = threading.RLock()
        self._inside = threading.local()

    # What a runner asks for

    @contextmanager
    def current(self):
        self._inside.refused = True
        self._step("current", outside=True)
        self._inside.refused = False
        self._inside.depth = getattr(self._inside, "depth", 0) + 1
        try:
            yield
        finally:
            self._inside.depth -= 1

    def new_stream(self) -> int:
        with self._lock:
            self._step("new_stream")
            self._handle += 1
            self.streams[self._handle] = deque()
            return self._handle

    def end_stream(self, stream: int) -> None:
        with self._lock:
            assert {op.name for op in self.streams[stream]} <= {"free"}, "a stream ends in the middle of its work"
            self._drain(stream)
            del self.streams[stream]

    def allocate(self, size: int, stream: int) -> Memory:
        with self._lock:
            self._step("allocate")
            assert stream in self.streams
            block = self._take(size, "device")
            return Memory(block.address, size, block=block)

    def allocate_host(self, size: int, *, mapped: bool) -> Memory:
        with self._lock:
            self._step("allocate_host")
            assert not mapped or self.integrated
            block = self._take(size, "mapped" if mapped else "pinned")
            return Memory(block.address, size, block.data, mapped, block)

    def free(self, memory: Memory, stream: int | None) -> None:
        with self._lock:
            self._not_capturing("free")
            block = memory.block
            assert block in self.blocks, "memory of somebody else"
            assert not block.freed, "freed twice"
            block.freed = True
            if stream is None or block.kind != "device":
                assert not self._waiting_for(block), "freed while work with it is going on"
                self._bury(block)
            else:
                self.streams[stream].append(Operation("free", lambda: self._bury(block)))

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        def do() -> None:
            self.find(to, size)[:] = self.find(source, size)

        self.enqueue("copy", stream, do, [(source, size)], [(to, size)])

    def synchronise(self, stream: int) -> None:
        with self._lock:
            self._not_capturing("synchronise")
            self._step("synchronise")
            self._drain(stream)

    def synchronise_all(self) -> None:
        with self._lock:
            self._not_capturing("synchronise_all")
            self._step("synchronise_all")
            for stream in self.streams:
                self._drain(stream)

    def follow(self, stream: int, other: int) -> None:
        with self._lock:
            self._not_capturing("follow")
            self._step("follow")
            reached: list[bool] = []
            self.streams[other].append(Operation("record", lambda: reached.append(True)))
            self.streams[stream].append(Operation("wait", lambda: self._drain(other, lambda: bool(reached))))

    def begin_capture(self, stream: int) -> None:
        with self._lock:
            self._not_capturing("begin_capture")
            self._step("begin_capture")
            assert stream not in self._captures
            self._captures[stream] = Capture(threading.get_ident())

    def end_capture(self, stream: int) -> int:
        with self._lock:
            capture = self._captures.pop(stream)
            assert capture.thread == threading.get_ident()
            self._step("end_capture")
            if capture.broken:
                raise BackendError("CUDA failed in end_capture: the capture is broken; do without.")
            self._handle += 1
            self.graphs[self._handle] = capture.operations
            return self._handle

    def launch(self, graph: int, stream: int) -> None:
        with self._lock:
            self._not_capturing("launch")
            self._step("launch")
            for operation in self.graphs[graph]:
                self._submit(operation, stream)

    def end_graph(self, graph: int) -> None:
        with self._lock:
            self._not_capturing("end_graph")
            del self.graphs[graph]

    def check_address(self, address: int) -> None:
        with self._lock:
            self._step("check_address")
            if address in self.foreign:
                raise BackendError("The array was made in another CUDA context.")
            self.find(address, 1)

    # What works on it

    def enqueue(self, name: str, stream: int, do: Callable[[], None], reads: Sequence[Span], writes: Sequence[Span]) -> None:
        """Puts work into a stream, or into the graph that is being captured there."""
        with self._lock:
            try:
                self._step(name)
            except BackendError:
                self.spoil()
                raise
            operation = Operation(name, do, reads, writes)
            for address, size in (*reads, *writes):
                self.find(address, size)
            if self.capturing(stream):
                self._captures[stream].operations.append(operation)
            else:
                self._submit(operation, stream)

    def capturing(self, stream: int) -> bool:
        assert stream not in self._captures or self._captures[stream].thread == threading.get_ident()
        return stream in self._captures

    def spoil(self) -> None:
        """What this thread is writing down breaks off."""
        for capture in self._captures.values():
            capture.broken |= capture.thread == threading.get_ident()

    def find(self, address: int, size: int) -> np.ndarray:
        """The bytes at an address, which must all lie in one block that is there."""
        for block in self.blocks:
            if block.address <= address < block.address + len(block.data):
                assert block.alive, "work with memory that was freed"
                start = address - block.address
                assert start + size <= len(block.data), "work reaches over the end of a block"
                return block.data[start : start + size]
        raise AssertionError(f"there is no memory at {address:#x}")

    # What tests ask for

    def put(self, array: np.ndarray) -> int:
        """Memory of somebody else with these values; its address."""
        with self._lock:
            block = self._take(array.nbytes, "device")
            block.data[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            block.freed = True
            return block.address

    def get(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A copy of values on the device, as they are now."""
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.find(address, count).view(dtype).reshape(shape).copy() if count else np.zeros(shape, dtype)

    def left(self) -> dict[str, int]:
        """What nobody gave back."""
        with self._lock:
            streams, blocks = len(self.streams) - 1, sum(not b.freed for b in self.blocks)
            return {
                k: n
                for k, n in (("streams", streams), ("blocks", blocks), ("graphs", len(self.graphs)), ("captures", len(self._captures)))
                if n
            }

    def fails(self, name: str) -> bool:
        """Whether a call that tells by its answer fails."""
        try:
            with self._lock:
                self._step(name)
        except BackendError:
            self.spoil()
            return True
        return False

    def _step(self, name: str, *, outside: bool = False) -> None:
        with self._lock:
            inside = outside or getattr(self._inside, "depth", 0) > 0
            assert inside or getattr(self._inside, "refused", False), f"{name} without the device's context"
            self.calls.append(name)
            if not inside:
                raise BackendError(f"CUDA failed in {name}: no context; do without.")
            hit = self.fail_at and (len(self.calls) >= self.fail_at if self.sticky else len(self.calls) == self.fail_at)
            if hit and self.sticky:
                self._break()
            if hit or name in self.fail:
                raise BackendError(f"CUDA failed in {name}: it was told to; do without.")

    def _break(self) -> None:
        """Nothing that is in a stream will be done, but memory can be given back."""
        for queue in self.streams.values():
            kept = [op for op in queue if op.name == "free"]
            queue.clear()
            queue.extend(kept)

    def _take(self, size: int, kind: str) -> Block:
        assert size > 0
        self._not_capturing("allocate")
        if size > self.room - sum(len(b.data) for b in self.blocks if b.alive):
            raise BackendError("CUDA failed in allocate: out of memory; close other programs on the GPU, or run the ONNX model on the CPU.")
        block = Block(self._next, np.full(size, RUBBISH, np.uint8), kind)
        self._next += -(-(size + _GAP) // ALIGNMENT) * ALIGNMENT
        self.blocks.append(block)
        return block

    def _bury(self, block: Block) -> None:
        block.alive = False
        block.data[:] = RUBBISH

    def _submit(self, operation: Operation, stream: int) -> None:
        """From now on until it is done, what the CPU can see of the results is rubbish."""
        for address, size in operation.writes:
            for block in self.blocks:
                if block.kind != "device" and block.address <= address < block.address + len(block.data):
                    self.find(address, size)[:] = RUBBISH
        self.streams[stream].append(operation)

    def _drain(self, stream: int, enough: Callable[[], bool] = lambda: False) -> None:
        queue = self.streams.get(stream)  # a stream that has ended has done all
        while queue and not enough():
            queue.popleft().do()

    def _waiting_for(self, block: Block) -> bool:
        end = block.address + len(block.data)
        spans = [s for queue in self.streams.values() for op in queue for s in (*op.reads, *op.writes)]
        return any(block.address <= address < end for address, _ in spans)

    def _not_capturing(self, name: str) -> None:
        assert all(c.thread != threading.get_ident() for c in self._captures.values()), f"{name} while a graph is captured"
