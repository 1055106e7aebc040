"""Openings that share, or wait for, the one variable that holds FFmpeg's options."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from keyposs_trt.video.ffmpeg import _VARIABLE, _Environment

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_VARIABLE, raising=False)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_nobody_overtakes_one_who_waits_with_other_options() -> None:
    environment, entered = _Environment(), []

    def enter(options: str) -> None:
        with environment.holding(options):
            assert os.environ[_VARIABLE] == options
            entered.append(options)

    threads = [threading.Thread(target=enter, args=(options,), daemon=True) for options in ("udp", "tcp")]
    with environment.holding("tcp"):
        with environment.holding("tcp"):  # while nobody waits, the same options overlap
            pass
        for i, thread in enumerate(threads):
            thread.start()
            until(lambda n=i + 1: len(environment._line) == n or "tcp" in entered)
        assert entered == []
    for thread in threads:
        thread.join(30)
    assert entered == ["udp", "tcp"]
    assert _VARIABLE not in os.environ


def test_one_who_gives_up_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    environment, entered = _Environment(), threading.Event()
    changed = environment._changed
    wait_for = changed.wait_for

    def enter() -> None:
        with environment.holding("tcp"):
            entered.set()

    def interrupted(condition: Callable[[], bool]) -> bool:
        if threading.current_thread() is thread:
            return wait_for(condition)
        thread.start()  # stands behind the one who gives up
        end = time.monotonic() + 30
        while len(environment._line) < 2 and time.monotonic() < end:
            changed.wait(0.005)
        raise KeyboardInterrupt

    thread = threading.Thread(target=enter, daemon=True)
    with environment.holding("tcp"):
        monkeypatch.setattr(changed, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt), environment.holding("udp"):
            pass
        assert entered.wait(30)
    thread.join(30)
    assert not environment._line
    assert _VARIABLE not in os.environ
