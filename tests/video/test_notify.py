from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from keyposs_trt.video.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listens as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        listener.bind(str(tmp_path / "notify"))
        yield listener


def test_words_arrive(manager, tmp_path):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"})
    assert notifier.listens
    assert notifier.ready()
    assert notifier.alive()
    assert notifier.status("2 streams,\n 30.0 fps")
    assert notifier.stopping()
    assert [manager.recv(100) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"STATUS=2 streams, 30.0 fps", b"STOPPING=1"]


def test_an_address_without_a_file():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        listener.bind(f"\0keyposs-test-{os.getpid()}")
        assert Notifier({"NOTIFY_SOCKET": f"@keyposs-test-{os.getpid()}"}).ready()
        assert listener.recv(100) == b"READY=1"


def test_the_process_environment_is_the_default(manager, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notifier = Notifier()
    assert notifier.ready()
    assert manager.recv(100) == b"READY=1"
    assert not notifier.alive(), "nobody watches"


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"NOTIFY_SOCKET": "/nowhere/notify"}]
)
def test_without_a_manager_nothing_happens(environment):
    notifier = Notifier(environment | {"WATCHDOG_USEC": "1000000"})
    assert [notifier.ready(), notifier.alive(), notifier.status("x"), notifier.stopping()] == [False] * 4


def test_the_watchdog_hears_four_times_an_interval_however_often_it_is_called(manager, tmp_path):
    now = [100.0]
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000000"}, clock=lambda: now[0])
    assert notifier.watchdog == 20
    sent = 0
    for frame in range(600):
        now[0] = 100 + frame / 30
        sent += notifier.alive()
    assert sent == 4
    assert [manager.recv(100) for _ in range(4)] == [b"WATCHDOG=1"] * 4


def test_many_threads_send_once(manager, tmp_path):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000000"}, clock=lambda: 1.0)
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(notifier.alive())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) == 1


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_who_is_watched(variables, seconds):
    assert Notifier(variables).watchdog == seconds


def test_a_manager_that_does_not_read_never_blocks(manager, tmp_path):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    results = [notifier.ready() for _ in range(5000)]
    assert results[0]
    assert not results[-1], "the queue of the socket is full, and the call came back"
