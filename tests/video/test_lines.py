from __future__ import annotations

from threading import Condition, Lock, Thread

import pytest

from keyposs_trt.video.lines import ClosedError, Line


def wait_until(condition, seconds=10.0):
    from time import monotonic, sleep

    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "waited in vain"
        sleep(0.001)


def started(function) -> Thread:
    thread = Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_items_come_out_in_the_order_they_went_in():
    line: Line[int] = Line(3, Lock())
    assert [line.put(i) for i in range(3)] == [0, 0, 0]
    assert len(line) == 3
    assert [line.take() for _ in range(3)] == [0, 1, 2]


def test_a_full_line_waits_for_room():
    line: Line[int] = Line(2, Lock())
    line.put(0)
    line.put(1)
    third = started(lambda: line.put(2))
    third.join(0.05)
    assert third.is_alive()
    assert len(line) == 2
    assert line.take() == 0
    third.join(10)
    assert not third.is_alive()
    assert [line.take(), line.take()] == [1, 2]


def test_the_newest_wins_where_it_may_not_lag():
    line: Line[int] = Line(4, Lock())
    assert [line.put(i, newest_wins=True) for i in range(4)] == [0, 1, 1, 1]
    assert len(line) == 1
    assert line.take() == 3


def test_the_end_of_a_stream_needs_no_room():
    line: Line[str] = Line(1, Lock())
    line.put("frame")
    line.put_last("end")
    assert [line.take(), line.take()] == ["frame", "end"]


def test_what_is_there_can_still_be_taken_from_a_closed_line():
    line: Line[int] = Line(2, Lock())
    line.put(1)
    line.close()
    with pytest.raises(ClosedError):
        line.put(2)
    assert line.take() == 1
    with pytest.raises(ClosedError):
        line.take()


def test_closing_can_discard():
    line: Line[int] = Line(2, Lock())
    line.put(1)
    line.close(discard=True)
    with pytest.raises(ClosedError):
        line.take()


@pytest.mark.parametrize("blocked", ["put", "take"])
def test_closing_wakes_who_waits(blocked):
    line: Line[int] = Line(1, Lock())
    if blocked == "put":
        line.put(0)
    ended = []

    def work():
        try:
            if blocked == "put":
                line.put(1)
            else:
                line.take()
        except ClosedError:
            ended.append(True)

    thread = started(work)
    thread.join(0.02)
    line.close()
    thread.join(10)
    assert ended == [True]


def test_a_shared_condition_hears_of_what_comes_and_goes():
    lock = Lock()
    work = Condition(lock)
    first: Line[int] = Line(2, lock, filled=work)
    second: Line[int] = Line(2, lock, emptied=work)
    heard = []

    def listen():
        for _ in range(2):
            with lock:
                while not (len(first) or (heard and not len(second))):
                    work.wait(10)
                heard.append(first.take_held() if len(first) else "room")

    second.put(1)
    thread = started(listen)
    first.put(7)
    wait_until(lambda: heard == [7])
    second.take()
    thread.join(10)
    assert heard == [7, "room"]
