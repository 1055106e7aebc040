"""Streams that are lost and come back, with feeds of our own."""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from keyposs_trt.errors import InputError
from keyposs_trt.video.clocks import FileClock, LiveClock
from keyposs_trt.video.connection import Connection
from keyposs_trt.video.contract import Event
from keyposs_trt.video.feeds import BrokenError, Picture
from keyposs_trt.video.streams import Label, Patience, StreamFrames

if TYPE_CHECKING:
    from collections.abc import Sequence

LABEL = Label("Stream 'x'", "check it", "mend it")
IMAGE = np.zeros((4, 6, 3), np.uint8)


class FakeFeed:
    """Gives pictures with these stamps; then it breaks, ends, or hangs."""

    count = None
    notes: Sequence[Event] = ()

    def __init__(self, stamps: Sequence[float | None], then: str = "breaks", *, fps: float = 10.0, live: bool = True) -> None:
        self.stamps, self.then, self.fps, self.live = list(stamps), then, fps, live
        self.interrupted, self.closed = threading.Event(), threading.Event()

    def read(self) -> Picture | None:
        if self.stamps:
            return Picture(IMAGE, time.monotonic(), self.stamps.pop(0))
        if self.then == "breaks":
            raise BrokenError("it broke")
        if self.then == "fails":
            raise ZeroDivisionError
        if self.then == "hangs":
            self.interrupted.wait(30)
        return None

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.closed.set()


class Feeds:
    """Connects to one feed after the other; None cannot be opened."""

    def __init__(self, *feeds: FakeFeed | None) -> None:
        self.feeds, self.attempts = list(feeds), 0

    def __call__(self) -> FakeFeed:
        self.attempts += 1
        if not self.feeds or (feed := self.feeds.pop(0)) is None:
            raise BrokenError("it is not there")
        return feed


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyposs_trt.video.streams.SHORTEST", 0.01)


def stream(feeds: Feeds, events: list[Event], patience: Patience | None = None) -> StreamFrames:
    return StreamFrames(LABEL, feeds, events.append, patience or Patience())


def test_lost_and_resumed_until_closed() -> None:
    events: list[Event] = []
    all_feeds = [FakeFeed([0, 0.1, 0.2]), FakeFeed([5, 5.1], "ends"), FakeFeed([None])]
    frames, seen = stream(Feeds(*all_feeds[:1], None, None, *all_feeds[1:]), events), []
    for frame in frames:
        seen.append(frame)
        if len(seen) == 6:
            frames.close()
    assert [f.index for f in seen] == [0, 1, 2, 3, 4, 5]
    assert [f.time for f in seen][:3] == pytest.approx([0, 0.1, 0.2])
    assert [f.time for f in seen] == sorted({f.time for f in seen})
    assert [e.kind for e in events] == ["lost", "resumed", "lost", "resumed"]
    assert events[0].text == "Stream 'x' stopped after 3 frames: it broke; connecting again."
    assert events[1].seconds == pytest.approx(seen[3].captured - seen[2].captured)
    assert all(f.closed.wait(10) for f in all_feeds)


def test_the_first_connection_must_stand_unless_it_is_waited_for() -> None:
    events: list[Event] = []
    feeds = Feeds(None, FakeFeed([0]))
    with pytest.raises(InputError, match=r"^Stream 'x' cannot be opened: it is not there; check it\.$"):
        stream(feeds, events)
    assert feeds.attempts == 1
    frames = stream(Feeds(None, None, FakeFeed([7.0])), events, Patience(wait=True))
    assert next(iter(frames)).time == 0
    frames.close()
    assert [e.kind for e in events] == ["lost", "resumed"]
    assert events[0].text == "Stream 'x' cannot be opened: it is not there; check it; waiting for it."


def test_one_that_is_there_is_not_reported_though_it_may_be_waited_for() -> None:
    events: list[Event] = []
    frames = stream(Feeds(FakeFeed([0])), events, Patience(wait=True))
    next(iter(frames))
    frames.close()
    assert events == []


def test_without_reconnection() -> None:
    events: list[Event] = []
    frames, seen = stream(Feeds(FakeFeed([0, 0.1])), events, Patience(reconnect=False)), []
    with pytest.raises(InputError, match=r"^Stream 'x' stopped after 2 frames: it broke; mend it\.$"):
        seen.extend(frames)
    assert (len(seen), events) == (2, [])


def test_one_that_hangs_is_lost_after_the_timeout() -> None:
    events: list[Event] = []
    first = FakeFeed([0], "hangs")
    frames = stream(Feeds(first, FakeFeed([0], "hangs")), events, Patience(timeout=0.2))
    for _ in frames:
        if len(events) == 2:
            break
    frames.close()
    assert [e.kind for e in events] == ["lost", "resumed"]
    assert "no frame for 0.2 s" in events[0].text
    assert first.closed.is_set()


def test_a_camera_that_hangs_is_not_opened_twice() -> None:
    """A read that cannot be interrupted holds the device: the next attempt waits for it."""
    events: list[Event] = []
    feed = FakeFeed([0], "hangs")
    feed.interrupt = lambda: None
    feeds = Feeds(feed, FakeFeed([1]))

    def report(event: Event) -> None:
        events.append(event)
        if event.kind == "lost":
            threading.Timer(0.3, feed.interrupted.set).start()

    frames = StreamFrames(LABEL, feeds, report, Patience(timeout=0.1))
    seen = list(islice(frames, 2))
    frames.close()
    assert feeds.attempts == 2
    assert seen[1].captured - seen[0].captured > 0.3
    assert events[1].seconds > 0.3


def test_closing_waits_for_the_connection_that_was_lost_just_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its child process, if it has one, would outlive ours."""
    monkeypatch.setattr("keyposs_trt.video.streams._CLOSING", 30.0)
    feed = FakeFeed([0], "hangs")
    feed.interrupt = lambda: threading.Timer(0.5, feed.interrupted.set).start()
    frames = StreamFrames(LABEL, Feeds(feed), lambda _: frames.close(), Patience(timeout=0.1))
    assert len(list(frames)) == 1
    assert feed.closed.is_set()


def test_a_source_that_ends() -> None:
    events: list[Event] = []
    frames = stream(Feeds(FakeFeed([0, 0.5, 0.5, None], "ends", live=False)), events)
    assert frames.live is False
    assert [f.time for f in frames] == pytest.approx([0, 0.5, 0.6, 0.7])
    assert events == []
    with pytest.raises(InputError, match="ended without a frame"):
        list(stream(Feeds(FakeFeed([], "ends", live=False)), events))
    with pytest.raises(InputError, match="stopped after 1 frame: it broke; mend it"):
        list(stream(Feeds(FakeFeed([0], live=False)), events))


def test_corrupt_frames_and_notes() -> None:
    events: list[Event] = []
    feed = FakeFeed([0, 0.1])
    feed.notes = (Event("resized", "a note"),)
    pictures = [Picture(None, 0.0), Picture(IMAGE, 0.0), Picture(None, 0.0), Picture(np.zeros((8, 8, 3), np.uint8), 0.1)]
    feed.read = lambda: pictures.pop(0)
    seen = list(islice(stream(Feeds(feed), events), 2))
    assert [f.index for f in seen] == [0, 1]
    assert [e.kind for e in events] == ["resized", "corrupt", "corrupt", "resized"]


def test_a_jump_of_the_clock_is_reported_once() -> None:
    events: list[Event] = []
    frames = stream(Feeds(FakeFeed([50, 50.1, 3000, 3000.1, 10, 10.1], "hangs")), events)
    seen = list(islice(frames, 6))
    frames.close()
    assert [e.kind for e in events] == ["clock"]
    assert "jumped ahead by 2949.9 s" in events[0].text
    assert [f.time for f in seen] == sorted({f.time for f in seen})
    assert seen[-1].time < 20  # by arrival


def test_an_error_nobody_thought_of_comes_out() -> None:
    frames = stream(Feeds(FakeFeed([0], "fails")), [])
    with pytest.raises(ZeroDivisionError):
        list(frames)
    frames.close()


@pytest.mark.parametrize("then", ["hangs", "breaks"])
def test_close_from_another_thread(then: str) -> None:
    frames = stream(Feeds(FakeFeed([0], then)), [], Patience(timeout=60))
    begun = threading.Event()

    def read() -> None:
        for _ in frames:
            begun.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(20)
    frames.close()
    thread.join(20)
    assert not thread.is_alive()
    frames.close()
    assert list(frames) == []


def test_a_feed_that_opens_after_all_interest_is_gone_is_closed() -> None:
    release, feed = threading.Event(), FakeFeed([0])

    def connect() -> FakeFeed:
        release.wait(30)
        return feed

    connection = Connection(connect)
    with pytest.raises(BrokenError, match=r"no answer for 0\.01 s"):
        connection.opened(0.01)
    connection.end(0)
    assert connection.alive
    release.set()
    assert feed.closed.wait(20)


def test_pauses_grow_and_never_agree() -> None:
    frames = stream(Feeds(FakeFeed([0])), [])
    pauses = [frames._pause() for _ in range(20)]
    frames.close()
    for i, pause in enumerate(pauses):
        assert 0.75 * min(0.01 * 2**i, 15) <= pause <= min(1.25 * 0.01 * 2**i, 15)
    assert len(set(pauses[:8])) == 8


def test_file_clock() -> None:
    clock = FileClock(10)
    stamps = [0, 0.05, 0.05, float("nan"), 1.0, 0.5]
    assert [clock.time(s) for s in stamps] == pytest.approx([0, 0.05, 0.15, 0.25, 1.0, 1.1])
    clock = FileClock(10)
    assert [clock.time(0) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("stamps", "arrivals", "times", "jumps"),
    [
        ([5, 5.1, 5.2], [100, 100.5, 100.6], [0, 0.1, 0.2], []),  # late by the network
        ([None, None, None], [100, 100.5, 100.6], [0, 0.5, 0.6], []),
        ([5, 5.04, 5.08, 5.12], [100, 100, 100, 100], [0, 0.04, 0.08, 0.12], []),  # a burst
        ([5, 15, 15.1], [100, 110, 110.1], [0, 10, 10.1], []),  # it stood still
        ([5, 4, 4.1], [100, 100.1, 100.2], [0, 0.1, 0.2], [-1]),
        ([5, 11, 11.1], [100, 100.1, 100.2], [0, 0.1, 0.2], [6]),
        ([5, 7, 1], [100, 100.1, 100.2], [0, 2, 2.001], [-6]),  # never back
        ([5, float("nan"), 6], [100, 100.1, 100.2], [0, 0.1, 0.2], []),
    ],
)
def test_live_clock(stamps: list[float | None], arrivals: list[float], times: list[float], jumps: list[float]) -> None:
    clock = LiveClock()
    found = [clock.time(s, a) for s, a in zip(stamps, arrivals, strict=True)]
    assert [t for t, _ in found] == pytest.approx(times)
    assert [j for _, j in found if j is not None] == pytest.approx(jumps)


def test_live_clock_trusts_a_new_connection() -> None:
    clock = LiveClock()
    clock.time(50, 100)
    clock.time(3, 100.1)
    clock.reconnected()
    assert clock.time(7, 110) == (pytest.approx(10), None)
    assert clock.time(7.5, 110.1) == (pytest.approx(10.5), None)
    clock.reconnected()
    assert clock.time(0, 110.2) == (pytest.approx(10.501), None)
