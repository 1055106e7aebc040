"""Video files: frames, time stamps, and files that break off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import InputError
from keyposs_trt.video.capture import VideoFrames

if TYPE_CHECKING:
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
