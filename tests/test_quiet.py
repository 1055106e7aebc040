"""Silence, and only while it is asked for."""

from __future__ import annotations

import os

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


def test_a_level_set_by_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "DEBUG")
    monkeypatch.delenv("OPENCV_FFMPEG_LOGLEVEL", raising=False)
    quiet_opencv()
    assert os.environ["OPENCV_LOG_LEVEL"] == "DEBUG"
    assert os.environ["OPENCV_FFMPEG_LOGLEVEL"] == "-8"
    monkeypatch.delenv("OPENCV_FFMPEG_LOGLEVEL")
