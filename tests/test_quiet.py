"""Silence, and only while it is asked for."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keyposs_trt.quiet import quiet_opencv, quiet_stderr


def test_descriptor_two_is_silent_only_inside(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with quiet_stderr():
        os.write(2, b"inside ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_descriptor_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), quiet_stderr():
        _ = 1 / 0
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_bodies_that_overlap_in_two_threads(capfd: pytest.CaptureFixture[str]) -> None:
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with quiet_stderr():
            first_is_in.set()
            assert second_is_in.wait(10)
        os.write(2, b"second still inside ")
        first_is_out.set()

    def second() -> None:
        assert first_is_in.wait(10)
        with quiet_stderr():
            second_is_in.set()
            assert first_is_out.wait(10)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_a_level_set_by_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "DEBUG")
    monkeypatch.delenv("OPENCV_FFMPEG_LOGLEVEL", raising=False)
    quiet_opencv()
    assert os.environ["OPENCV_LOG_LEVEL"] == "DEBUG"
    assert os.environ["OPENCV_FFMPEG_LOGLEVEL"] == "-8"
    monkeypatch.delenv("OPENCV_FFMPEG_LOGLEVEL")
