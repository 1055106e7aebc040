"""A feed that is opened and read by a thread of its own, so that nobody waits for it longer than he wants to."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from threading import Condition, Thread
from typing import TYPE_CHECKING

from keyposs_trt.video.feeds import BrokenError, Feed, Picture, wanted

if TYPE_CHECKING:
    from collections.abc import Callable


class Connection:
    """Runs a feed. OpenCV's calls, name look-ups and drivers block as long as they like; only the thread here waits for them.

    Args:
        connect: opens the feed.
    """

    def __init__(self, connect: Callable[[], Feed]) -> None:
        self._connect = connect
        self._changed = Condition()
        self._items: deque[Feed | Picture | BaseException | None] = deque()  # at most one; None is the end
        self._feed: Feed | None = None
        self._over = False
        self._thread = Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs, and may hold the device."""
        return self._thread.is_alive()

    def opened(self, timeout: float) -> Feed | None:
        """The feed, for what it says of itself; None if this was ended meanwhile. Called once, first.

        Raises:
            BrokenError: it cannot be opened, or not within ``timeout`` seconds.
        """
        item = self._take(timeout, "no answer")
        return None if item is None or isinstance(item, Picture) else item

    def read(self, timeout: float) -> Picture | None:
        """The next frame; None at the end, or if this was ended.

        Raises:
            BrokenError: the feed broke, or no frame came within ``timeout`` seconds.
        """
        item = self._take(timeout, "no frame")
        return item if isinstance(item, Picture) else None

    def end(self, patience: float) -> None:
        """Ends the feed, waiting so many seconds for it; a call that hangs in a driver is left to itself. Any thread may call it."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            feed = self._feed
        if feed is not None:
            feed.interrupt()
        self._thread.join(patience)

    def _take(self, timeout: float, nothing: str) -> Feed | Picture | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._over, timeout):
                raise BrokenError(f"{nothing} for {timeout:g} s")
            if self._over:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
        if isinstance(item, BaseException):
            raise item
        return item

    def _run(self) -> None:
        wanted.set(lambda: not self._over)
        try:
            feed = self._connect()
            with closing(feed):
                with self._changed:
                    self._feed = feed
                going = self._put(feed)
                while going:
                    picture = feed.read()
                    going = self._put(picture) and picture is not None
        except BaseException as e:  # noqa: BLE001 (whatever it is, it is raised again where the frames are read)
            self._put(e)

    def _put(self, item: Feed | Picture | BaseException | None) -> bool:
        """Hands an item over as soon as the last one was taken; False if nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items or self._over)
            if self._over:
                return False
            self._items.append(item)
            self._changed.notify_all()
        return True
