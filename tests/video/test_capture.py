"""Video files: frames, time stamps, and files that break off."""

from __future__ import annotations

import struct
import threading
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import InputError
from keyposs_trt.video.capture import VideoFrames
from keyposs_trt.video.contract import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keyposs_trt.video.contract import Frame

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


def write_video(path: Path, frames: int = 40, fps: float = 25.0) -> Path:
    """Noise, so that every frame has its bytes; the mean grey value tells the frame number."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), fps, (64, 48))
    rng = np.random.default_rng(0)
    for i in range(frames):
        writer.write(np.clip(40 + 4 * i + rng.normal(0, 9, (48, 64, 3)), 0, 255).astype(np.uint8))
    writer.release()
    return path


def read(path: Path) -> tuple[list[Frame], str]:
    """All frames and the sentence they end with."""
    video, frames = VideoFrames(str(path)), []
    try:
        for frame in video:
            frames.append(frame)
    except InputError as e:
        return frames, str(e)
    finally:
        video.close()
    return frames, ""


@pytest.mark.parametrize("suffix", CODECS)
def test_every_frame_with_its_time(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", fps=30)
    video = VideoFrames(str(path))
    assert (video.count, video.fps, video.live) == (40, pytest.approx(30, rel=1e-3), False)
    video.close()
    frames, sentence = read(path)
    assert sentence == ""
    assert [f.index for f in frames] == list(range(40))
    assert [f.time for f in frames] == pytest.approx([i / 30 for i in range(40)], abs=2e-3)
    assert [f.image.mean() for f in frames] == pytest.approx([40 + 4 * i for i in range(40)], abs=4)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_that_breaks_off_gives_what_it_has_and_says_so(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, sentence = read(path)
    assert 10 <= len(frames) <= 25
    assert f"breaks off after {len(frames)} of 40 frames" in sentence


def test_a_video_of_which_only_the_last_frame_is_missing_passes(tmp_path: Path) -> None:
    # Containers count wrongly by a frame: no alarm for that.
    path = write_video(tmp_path / "a.avi")
    data = path.read_bytes()
    path.write_bytes(data[: data.rfind(b"00dc", 0, data.rfind(b"idx1"))])
    frames, sentence = read(path)
    assert len(frames) == 39
    assert sentence == ""


@pytest.mark.parametrize("content", [b"no video at all " * 40, None])
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.mp4"
    if content is None:  # cut before its index, an MP4 cannot be opened at all
        content = write_video(path).read_bytes()[:5000]
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a video"):
        VideoFrames(str(path))


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no video"):
        VideoFrames(str(tmp_path / "none.mp4"))
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        VideoFrames(str(tmp_path / "a.mp4"))
    with pytest.raises(InputError, match="Cannot read video"):
        VideoFrames(str(tmp_path))


class Stamps:
    """A capture with the time stamps it is given, at 10 frames a second."""

    def __init__(self, stamps: list[float], count: int = -1) -> None:
        self.stamps, self.count, self.at = stamps, count, -1

    def isOpened(self) -> bool:
        return True

    def get(self, prop: int) -> float:
        return {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_FRAME_COUNT: float(self.count)}.get(prop) or self.stamps[self.at]

    def read(self) -> tuple[bool, np.ndarray]:
        self.at += 1
        return self.at < len(self.stamps), np.zeros((2, 2, 3), np.uint8)

    def release(self) -> None: ...


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 100, 250, 300], [0, 0.1, 0.25, 0.3]),  # variable frame rate
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3]),  # no stamps
        ([0, 100, float("nan"), 300], [0, 0.1, 0.2, 0.3]),
    ],
)
def test_times_follow_the_stamps_and_always_rise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamps: list[float], times: list[float]
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Stamps(stamps))
    frames, sentence = read(tmp_path / "a.mp4")
    assert [f.time for f in frames] == pytest.approx(times)
    assert sentence == ""


@pytest.mark.parametrize(
    ("stamps", "count", "sentence"),
    [
        (range(0, 5000, 100), 50, ""),
        (range(0, 5000, 100), 100, "breaks off after 50 of 100 frames"),
        (range(0, 10000, 200), 100, ""),  # a variable frame rate: fewer frames than estimated, but to the end
        (range(0, 2500, 50), 50, ""),  # every frame is there, whatever the stamps say
        (range(0, 5000, 100), 58, ""),  # sound that is a little longer than the picture
    ],
)
def test_only_a_missing_end_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamps: range, count: int, sentence: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Stamps(list(stamps), count))
    frames, said = read(tmp_path / "a.mp4")
    assert len(frames) == 50
    assert sentence in said
    assert bool(sentence) == bool(said)


def with_box(data: bytes, path: list[bytes], change: Callable[[bytes], bytes]) -> bytes:
    """An MP4 file in which the box at a path has other content."""
    out, at = b"", 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        inner = data[at + 8 : at + size]
        if name == path[0]:
            inner = with_box(inner, path[1:], change) if path[1:] else change(inner)
        out += struct.pack(">I4s", len(inner) + 8, name) + inner
        at += size
    return out


def test_variable_frame_rate(tmp_path: Path) -> None:
    """As phones record: the container says how long each frame is shown."""
    path = write_video(tmp_path / "a.mp4", frames=9, fps=10)

    def stretched(table: bytes) -> bytes:
        assert struct.unpack(">II", table[:8]) == (0, 1)  # version; all frames are equally long
        _, length = struct.unpack(">II", table[8:])
        return struct.pack(">II6I", 0, 3, 3, length, 3, 3 * length, 3, length // 2)

    data = with_box(path.read_bytes(), [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"], stretched)
    # The edit list says how much of the track is shown, in milliseconds.
    path.write_bytes(with_box(data, [b"moov", b"trak", b"edts", b"elst"], lambda b: b[:8] + struct.pack(">I", 1350) + b[12:]))
    frames, sentence = read(path)
    assert sentence == ""
    assert [f.time for f in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.6, 0.9, 1.2, 1.25, 1.3], abs=2e-3)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=3)

    def turned(header: bytes) -> bytes:  # the matrix of a phone held upright: 90 degrees clockwise
        matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
        return header[:40] + matrix + header[76:]

    path.write_bytes(with_box(path.read_bytes(), [b"moov", b"trak", b"tkhd"], turned))
    frames, _ = read(path)
    assert {f.image.shape for f in frames} == {(64, 48, 3)}


def test_when_a_frame_was_there(tmp_path: Path) -> None:
    before = time.monotonic()
    frames, _ = read(write_video(tmp_path / "a.avi", frames=3))
    assert before < frames[0].captured <= frames[1].captured <= frames[2].captured < time.monotonic()


def test_another_size_within_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    capture, events = Stamps([0, 100]), list[Event]()
    images = [np.zeros((2, 2, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]
    capture.read = lambda: (bool(images), images.pop(0) if images else None)
    capture.at = 0
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: capture)
    assert [f.image.shape[:2] for f in VideoFrames(str(tmp_path / "a.mp4"), events.append)] == [(2, 2), (4, 6)]
    assert [(e.kind, "2x2 to 6x4 pixels" in e.text) for e in events] == [("resized", True)]


def test_close_from_another_thread(tmp_path: Path) -> None:
    video = VideoFrames(str(write_video(tmp_path / "a.avi")))
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def read_on() -> None:
        for frame in video:
            seen.append(frame.index)
            begun.set()
            go_on.wait(20)

    thread = threading.Thread(target=read_on)
    thread.start()
    assert begun.wait(20)
    video.close()
    go_on.set()
    thread.join(20)
    assert (thread.is_alive(), seen) == (False, [0])
