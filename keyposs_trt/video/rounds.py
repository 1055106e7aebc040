"""What the core works on next, and how its results leave it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from keyposs_trt.video.delivery import Found
from keyposs_trt.video.lane import End
from keyposs_trt.video.lines import ClosedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Condition

    from keyposs_trt.video.contract import Frame
    from keyposs_trt.video.core import Core
    from keyposs_trt.video.delivery import Delivery
    from keyposs_trt.video.lane import Lane, Stream

    Taken = list[tuple[Delivery, Stream, Frame]]


class Rounds:
    """Takes frames from the lanes in rounds, has a core find their faces, and hands these to whoever writes them. Of one thread.

    Args:
        pairs: the lanes, each with the delivery of its results.
        work: notified when a frame came or a result went; its lock is that of all queues.
    """

    def __init__(self, pairs: Sequence[tuple[Lane, Delivery]], work: Condition) -> None:
        self._pairs = pairs
        self._work = work
        self._found: list[tuple[Delivery, Found]] = []  # not handed over yet
        self._busy_since: float | None = None

    @property
    def busy_seconds(self) -> float:
        """How long the core has been at the frames it works on now; 0 while it waits for some. Any thread may ask."""
        began = self._busy_since
        return 0.0 if began is None else time.monotonic() - began

    def run(self, core: Core) -> None:
        """Works until every lane has ended; ``core`` calls ``hand_over`` when its network begins to run."""
        try:
            while (taken := self._next()) is not None:
                if taken:
                    self._work_on(core, taken)
        finally:
            self.hand_over()

    def hand_over(self) -> None:
        """Gives the results of the last round to those who write them.

        That is done when the network begins to run, for it needs no interpreter: any earlier, writers would fight with the core for it
        while the next crops are made.
        """
        found, self._found = self._found, []
        for delivery, result in found:
            with suppress(ClosedError):
                delivery.results.put_last(result)
            result.stream.statistics.queue("results", len(delivery.results), delivery.results.size)

    def _next(self) -> Taken | None:
        """As ``_take``, waiting for a frame only when all results are handed over."""
        if self._found and (taken := self._take(wait=False)):
            return taken
        self.hand_over()
        return self._take()

    def _take(self, wait: bool = True) -> Taken | None:
        """One frame of each stream that has one, and whose results somebody takes; None when all have ended.

        Args:
            wait: for the first frame, instead of returning an empty list.
        """
        with self._work:
            while True:
                taken: Taken = []
                moved = False
                for lane, delivery in self._pairs:
                    if not len(lane.frames) or delivery.results.full:
                        continue
                    item = lane.frames.take_held()
                    moved = True
                    if isinstance(item, End):
                        self._end(delivery, item)
                    else:
                        taken.append((delivery, *item))
                if taken or moved or not wait:
                    return taken
                if all(lane.frames.closed and not len(lane.frames) for lane, _ in self._pairs):
                    return None
                self._work.wait()

    def _end(self, delivery: Delivery, end: End) -> None:
        """Passes on that a stream has ended, behind its last results; the lock is held."""
        last = [found for owner, found in self._found if owner is delivery]
        self._found = [pair for pair in self._found if pair[0] is not delivery]
        with suppress(ClosedError):
            for parcel in (*last, end):
                delivery.results.append_held(parcel)

    def _work_on(self, core: Core, taken: Taken) -> None:
        self._busy_since = time.monotonic()
        found = core([(stream, frame) for _, stream, frame in taken])
        self._busy_since = None
        for (delivery, stream, frame), (faces, error) in zip(taken, found, strict=True):
            self._found.append((delivery, Found(stream, frame, faces, error)))
