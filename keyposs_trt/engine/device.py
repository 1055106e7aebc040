"""What a runner asks of a GPU, so that something else can stand in for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

LEGACY_STREAM = 1  # CU_STREAM_LEGACY: the stream that libraries work in where nobody says otherwise
ALIGNMENT = 256  # bytes; what CUDA's own allocations keep, and TensorRT asks for


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """A block that the GPU works on.

    Attributes:
        address: where the GPU and copies find it.
        size: bytes.
        host: [size] uint8, its bytes for the CPU; None for memory that only the GPU sees.
        mapped: the GPU works on the CPU's memory itself, so nothing is copied.
        block: what the device frees it by.
    """

    address: int
    size: int
    host: NDArray[np.uint8] | None = None
    mapped: bool = False
    block: Any = None


class Device(Protocol):
    """One GPU. Streams and graphs are handles.

    Everything but ``current``, ``name`` and ``integrated`` is called inside ``current``, and raises BackendError where CUDA fails. What
    takes back (``free``, ``end_stream``, ``end_graph``) raises nothing: where it fails, CUDA failed before, and that is the error to tell.
    """

    @property
    def name(self) -> str:
        """As the driver names it."""
        ...

    @property
    def integrated(self) -> bool:
        """Whether CPU and GPU share their memory, as on a Jetson."""
        ...

    def current(self) -> AbstractContextManager[object]:
        """Makes the GPU's primary context this thread's for a while, and then puts back the one that was."""
        ...

    def new_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        ...

    def end_stream(self, stream: int) -> None:
        """Gives a stream back; nothing is going on in it."""
        ...

    def allocate(self, size: int, stream: int) -> Memory:
        """Memory of the GPU, there for what comes in ``stream``."""
        ...

    def allocate_host(self, size: int, *, mapped: bool) -> Memory:
        """Page-locked memory of the CPU, which copies do not wait for; ``mapped`` for the GPU to work on it."""
        ...

    def free(self, memory: Memory, stream: int | None) -> None:
        """Frees a block after all that is in ``stream``; memory of the CPU at once. None: nothing uses it any more."""
        ...

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        """Copies ``size`` bytes between addresses of blocks, in the stream."""
        ...

    def synchronise(self, stream: int) -> None:
        """Waits until everything in the stream is done."""
        ...

    def synchronise_all(self) -> None:
        """Waits until everything in every stream of the context is done."""
        ...

    def follow(self, stream: int, other: int) -> None:
        """Lets what comes in ``stream`` wait for all that is in ``other`` now; the CPU does not wait."""
        ...

    def begin_capture(self, stream: int) -> None:
        """From now on, this thread's calls in the stream are written down and not done."""
        ...

    def end_capture(self, stream: int) -> int:
        """Ends that, also after a call that failed.

        Returns:
            the graph of what was written down.
        """
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Does in the stream what the graph holds, with the same addresses."""
        ...

    def end_graph(self, graph: int) -> None:
        """Gives a graph back; it is not at work."""
        ...

    def check_address(self, address: int) -> None:
        """Makes sure that somebody's memory can be worked on here.

        Raises:
            BackendError: it is no memory of this GPU, or was made in another CUDA context.
        """
        ...
