"""Windows, on a made-up screen; and what happens without a real one."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import cv2
import pytest
from sink_tools import picture, result_of

from keyposs_trt.errors import OutputError
from keyposs_trt.video import window as module
from keyposs_trt.video.window import WindowSink


class Screen:
    """The functions of OpenCV; keeps who called, what is shown, and gives the keys it was told."""

    def __init__(self) -> None:
        self.windows: dict[str, list[int]] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.keys: list[int] = []
        self.threads: set[int] = set()
        self.broken = False

    def named(self, title: str, flags: int) -> None:
        self.threads.add(threading.get_ident())
        assert title not in self.windows
        self.windows[title] = []

    def resize(self, title: str, width: int, height: int) -> None:
        self.sizes[title] = width, height

    def show(self, title: str, image) -> None:
        self.threads.add(threading.get_ident())
        if self.broken:
            raise cv2.error("the screen has gone")
        self.windows[title].append(int(image[0, 0, 0]))

    def poll(self) -> int:
        self.threads.add(threading.get_ident())
        return self.keys.pop(0) if self.keys else -1

    def visible(self, title: str, what: int) -> float:
        if not self.windows:  # as Qt does
            raise cv2.error("NULL guiReceiver")
        return 1.0 if title in self.windows else 0.0

    def destroy(self, title: str) -> None:
        if title not in self.windows:
            raise cv2.error("NULL window")
        del self.windows[title]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr(module, "_require_screen", lambda: None)
    for name, function in {
        "namedWindow": screen.named, "resizeWindow": screen.resize, "imshow": screen.show, "pollKey": screen.poll,
        "getWindowProperty": screen.visible, "destroyWindow": screen.destroy,
    }.items():  # fmt: skip
        monkeypatch.setattr(cv2, name, function)
    return screen


def test_one_thread_shows_what_another_wrote(screen: Screen) -> None:
    with WindowSink("cam") as sink:
        assert sink.draws
        sink.poll()
        assert (screen.windows, sink.open) == ({}, False)
        for value in (1, 2, 3):
            writer = threading.Thread(target=sink.write, args=(result_of(0), picture(value, 4000, 1000)))
            writer.start()
            writer.join()
            if value != 1:
                sink.poll()
                sink.poll()
        assert screen.windows == {"cam": [2, 3]}  # the newest; each once
        assert screen.sizes == {"cam": (1280, 320)}
        assert screen.threads == {threading.get_ident()}
    sink.poll()
    assert (screen.windows, sink.open, sink.stop) == ({}, False, False)
    sink.poll()


@pytest.mark.parametrize("key", [ord("q"), ord("Q"), 27, 0x100000 | 27])
def test_keys_that_stop(screen: Screen, key: int) -> None:
    with WindowSink("cam") as sink:
        sink.write(result_of(0), picture(1))
        screen.keys = [ord("x"), -1, key]
        for stopped in (False, False, True):
            sink.poll()
            assert sink.stop == stopped
        sink.write(result_of(1), picture(2))
        sink.poll()
        assert screen.windows == {"cam": [1]}
    sink.close()
    assert screen.windows == {}


@pytest.mark.parametrize("others", [False, True])
def test_closing_the_window_stops(screen: Screen, others: bool) -> None:
    with WindowSink("cam") as sink:
        sink.write(result_of(0), picture(1))
        sink.poll()
        screen.windows = {"another": []} if others else {}
        sink.poll()
        assert sink.stop
    sink.close()
    assert not sink.open


def test_a_window_that_stays(screen: Screen) -> None:
    sink = WindowSink("pictures", stays=True)
    for value in (1, 2):
        with sink:
            sink.write(result_of(0), picture(value))
        sink.poll()
    assert screen.windows == {"pictures": [1, 2]}
    sink.close()
    assert screen.windows == {}


def test_a_screen_that_goes_away(screen: Screen) -> None:
    with WindowSink("cam") as sink:
        screen.broken = True
        sink.write(result_of(0), picture(1))
        with pytest.raises(OutputError, match="cannot be shown any more"):
            sink.poll()
        assert sink.stop


linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a screen, or none of ours")


@linux
def test_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match=r"no screen.*preview:8080"):
        WindowSink("cam")


@linux
def test_a_screen_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":7654")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    with pytest.raises(OutputError, match=r"cannot be shown: (screen ':7654' is not there|this OpenCV knows no windows)"):
        WindowSink("cam")


@linux
@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (0, "", None),
        (1, "cv2.error: The function is not implemented. Rebuild the library", "opencv-python-headless"),
        (-6, "could not connect to display", "lets nobody in"),
    ],
)
def test_what_the_trial_tells(monkeypatch: pytest.MonkeyPatch, code: int, error: str, reason: str | None) -> None:
    tries: list[object] = []

    def run(command: object, **_: object) -> SimpleNamespace:
        tries.append(command)
        return SimpleNamespace(returncode=code, stderr=error)

    module._trial.cache_clear()
    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setenv("DISPLAY", ":1")
    try:
        for _ in range(2):
            if reason is None:
                WindowSink("cam")
            else:
                with pytest.raises(OutputError, match=reason):
                    WindowSink("cam")
    finally:
        module._trial.cache_clear()
    assert len(tries) == 1
