"""Bounded queues between the threads of a pipeline.

All queues of a pipeline share one lock, so that the core can look at all of them at once; each thread waits on a condition
of its own, so that nobody is woken in vain.
"""

from __future__ import annotations

from collections import deque
from threading import Condition, Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class ClosedError(Exception):
    """The queue takes and gives nothing more."""


class Line(Generic[T]):
    """A queue of at most ``size`` items from one thread to another.

    Args:
        size: the most items it holds.
        lock: the lock of the pipeline.
        filled: notified when an item came; a condition of ``lock``. By default one of its own.
        emptied: notified when an item went; likewise.
    """

    def __init__(self, size: int, lock: Lock, *, filled: Condition | None = None, emptied: Condition | None = None) -> None:
        self.size = size
        self.closed = False
        self._items: deque[T] = deque()
        self._lock = lock
        self._filled = filled or Condition(lock)
        self._room = Condition(lock)
        self._emptied = emptied

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether the next ``put`` would wait; certain only while the lock is held."""
        return len(self._items) >= self.size

    def put(self, item: T, newest_wins: bool = False) -> int:
        """Appends an item.

        Args:
            item: what to append.
            newest_wins: drops what still waits, instead of waiting for room: anything older would only lag.

        Returns:
            The number of items that were dropped.

        Raises:
            ClosedError: the queue is closed, also while waiting.
        """
        with self._lock:
            dropped = 0
            if newest_wins:
                dropped = len(self._items)
                self._items.clear()
            while self.full and not self.closed:
                self._room.wait()
            self.append_held(item)
            return dropped

    def put_last(self, item: T) -> None:
        """Appends an item that must not be lost and needs no room: the end of a stream.

        Raises:
            ClosedError: the queue is closed.
        """
        with self._lock:
            self.append_held(item)

    def append_held(self, item: T) -> None:
        """As ``put_last``, for a caller that holds the lock."""
        if self.closed:
            raise ClosedError
        self._items.append(item)
        self._filled.notify()

    def take_held(self) -> T:
        """The oldest item, for a caller that holds the lock and knows that there is one."""
        item = self._items.popleft()
        self._room.notify()
        if self._emptied is not None:
            self._emptied.notify()
        return item

    def take(self) -> T:
        """The oldest item; waits for one.

        Raises:
            ClosedError: there is none and none will come.
        """
        with self._lock:
            while not self._items:
                if self.closed:
                    raise ClosedError
                self._filled.wait()
            return self.take_held()

    def close(self, discard: bool = False) -> None:
        """Nothing more is put in; what is there can still be taken, unless it is discarded."""
        with self._lock:
            self.closed = True
            if discard:
                self._items.clear()
            for condition in (self._filled, self._room, self._emptied):
                if condition is not None:
                    condition.notify_all()
