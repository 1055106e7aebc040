"""Results for a loop of the caller's own, instead of a sink."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from keyposs_trt.video.lines import ClosedError, Line

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from keyposs_trt.video.contract import FrameResult


class Collector:
    """A few results that wait for a loop, and the sink that brings those of all streams.

    Args:
        size: the most results that wait; beyond that the streams do.
    """

    draws = False

    def __init__(self, size: int) -> None:
        self._results: Line[FrameResult] = Line(size, Lock())

    def next(self) -> FrameResult | None:
        """The next result; waits for it. None when no more will come."""
        with suppress(ClosedError):
            return self._results.take()
        return None

    def end(self) -> None:
        """No more results will come."""
        self._results.close()

    def leave(self) -> None:
        """Nobody wants what is left."""
        self._results.close(discard=True)

    def write(self, result: FrameResult, drawn: object) -> None:  # noqa: ARG002 (nothing is drawn for it)
        """Waits until there is room; when the loop was left, the result is dropped."""
        with suppress(ClosedError):
            self._results.put(result)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """A stream has ended; the others go on."""
