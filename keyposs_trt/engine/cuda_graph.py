"""CUDA graphs of calls that come again: what was written down once is launched as a whole, without the CPU's work for each kernel."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyposs_trt.engine.device import Device
    from keyposs_trt.engine.shared_engine import Context

MOST = 32  # graphs of one runner
_REMEMBERED = 4 * MOST  # calls that came once
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """What makes two calls the same for the GPU: then the second can be a replay of the first.

    Attributes:
        source: where the crops come from: ``host``, ``frames`` or ``device``.
        count: crops.
        address: of the crops on the GPU.
        download: whether the results are copied to the CPU.
    """

    source: str
    count: int
    address: int
    download: bool


class Graphs:
    """Runs calls: plainly at first, and as a graph from the third time on.

    TensorRT takes a context with a graph as one that must not change any more, and wants it to have run once before. So at the second
    time a call gets a context of its own, runs on that, and is written down; graphs share their scratch memory. Where a graph cannot
    be made, the reason is logged, once, and calls without one run plainly from then on.

    Args:
        device: the GPU.
        stream: where all is done.
        name: of the model, for the log.
        base: the context for plain calls.
        another: makes a context for a graph.
        most: graphs that are kept; 0 for none.
    """

    def __init__(self, device: Device, stream: int, name: str, base: Context, another: Callable[[], Context], most: int = MOST) -> None:
        self._device = device
        self._stream = stream
        self._name = name
        self._base: Context | None = base
        self._another: Callable[[], Context] | None = another
        self._most = most
        self._seen: dict[Call, None] = {}
        self._graphs: dict[Call, tuple[int, Context]] = {}

    def run(self, call: Call, enqueue: Callable[[Context], None], *, plain: bool = False) -> None:
        """Does a call in the stream.

        Args:
            call: which one.
            enqueue: puts its work into the stream, with a context.
            plain: without a graph.

        Raises:
            BackendError: it fails.
        """
        graph = None if plain else self._graphs.get(call)
        if graph is not None:
            self._graphs[call] = self._graphs.pop(call)  # the one used last stands last
            self._device.launch(graph[0], self._stream)
            return
        assert self._base is not None
        again = call in self._seen
        if plain or not again or not self._most:
            self._remember(call)
            enqueue(self._base)
            return
        context = self._context()
        enqueue(context or self._base)
        if context is not None:
            self._capture(call, context, enqueue)

    def close(self) -> None:
        """Gives graphs and contexts back; nothing is at work."""
        for graph, _ in self._graphs.values():
            self._device.end_graph(graph)
        self._graphs.clear()
        self._base = None
        self._another = None

    def _remember(self, call: Call) -> None:
        self._seen[call] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _context(self) -> Context | None:
        assert self._another is not None
        try:
            return self._another()
        except BackendError as e:
            self._give_up(e)
            return None

    def _capture(self, call: Call, context: Context, enqueue: Callable[[Context], None]) -> None:
        """Writes the call down; what it did before is on its way already."""
        try:
            if not context.can_be_captured(self._stream):
                raise BackendError("the engine says that it cannot be captured.")
            self._make_room()
            self._device.begin_capture(self._stream)
            try:
                enqueue(context)
            except BackendError:
                self._discard_capture()
                raise
            self._graphs[call] = self._device.end_capture(self._stream), context
        except BackendError as e:
            self._give_up(e)

    def _discard_capture(self) -> None:
        try:
            self._device.end_graph(self._device.end_capture(self._stream))
        except BackendError:
            _log.debug("The graph broke off.")

    def _make_room(self) -> None:
        if len(self._graphs) >= self._most:
            self._device.synchronise(self._stream)
            idle = next(iter(self._graphs))
            self._device.end_graph(self._graphs.pop(idle)[0])
            self._seen.pop(idle, None)  # it begins anew, plainly: calls that take turns would be captured for nothing

    def _give_up(self, error: BackendError) -> None:
        if self._most:
            _log.warning("'%s' runs without CUDA graphs, a little slower: %s", self._name, error)
        self._most = 0
