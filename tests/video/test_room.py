"""A file that does not get what is written to it is found out."""

from __future__ import annotations

import os
import resource
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from keyposs_trt.errors import OutputError
from keyposs_trt.video.room import BUFFER, RESERVE, Room

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_that_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 100)
    room = Room(path, path, (640, 480))
    enough = 2 * BUFFER // (640 * 480 // 256 // 8)
    room.check(1)
    room.check(enough)  # frames this small may still be in a buffer
    path.write_bytes(b"x" * 200)
    room.check(enough + 10)
    room.check(2 * enough)
    with pytest.raises(OutputError, match=r"a\.mp4' does not grow"):
        room.check(2 * enough + 20)


def test_a_limit_of_file_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 1000)
    free = 1 << 40
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=1))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (RESERVE, RESERVE))
    room = Room(path, path, (640, 480))
    with pytest.raises(OutputError, match=r"plays; raise the limit of file size \(ulimit -f\)"):
        room.check(5)
    free = 1000
    with pytest.raises(OutputError, match="make room on its disk"):
        room.check(5)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    free = 1 << 40
    room.check(5)


def test_a_disk_that_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"")
    free = [0]
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free[0] // 512, f_frsize=512))
    room = Room(path, path, (640, 480))
    with pytest.raises(OutputError, match="nothing was written"):
        room.check(0)
    free[0] = RESERVE + 10_000
    room.check(0)
    path.write_bytes(b"x" * 20_000)  # as much again, and the index, would no longer fit
    with pytest.raises(OutputError, match="ends after 50 frames, and plays"):
        room.check(50)
    free[0] += 50_000
    room.check(50)
    with pytest.raises(OutputError, match="ends after 900000 frames"):
        room.check(900_000)
