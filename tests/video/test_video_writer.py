"""A video is finished whatever happens, and what was written of it plays."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import OutputError
from keyposs_trt.quiet import quiet_stderr
from keyposs_trt.video.room import RESERVE
from keyposs_trt.video.video_writer import CODECS, VideoWriter, writable_fps

if TYPE_CHECKING:
    from pathlib import Path


def frame(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), 10 * i, np.uint8)


def played(path: Path) -> tuple[float, list[float]]:
    """Frame rate and mean grey value of every frame."""
    capture, means = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        means.append(got[1].mean())
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return fps, means


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("fps", [25.0, 30000 / 1001])
def test_video_plays_back(tmp_path: Path, suffix: str, fps: float) -> None:
    with VideoWriter(tmp_path / f"a{suffix}", fps) as writer:
        for i in range(10):
            writer.write(frame(i))
            assert not (tmp_path / f"a{suffix}").exists()
    rate, means = played(tmp_path / f"a{suffix}")
    assert rate == pytest.approx(fps, rel=1e-3)
    assert means == pytest.approx([10 * i for i in range(10)], abs=4)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("fps", [90.123, 239.123, 999.99, 0.0123])
def test_rates_with_many_decimals(tmp_path: Path, suffix: str, fps: float) -> None:
    with VideoWriter(tmp_path / f"a{suffix}", fps) as writer:
        for i in range(3):
            writer.write(frame(i))
    rate, means = played(tmp_path / f"a{suffix}")
    assert rate == pytest.approx(fps, rel=1e-4, abs=1e-3)
    assert len(means) == 3


@pytest.mark.parametrize("fps", [0.0, -5.0, float("nan"), float("inf"), 1e9, 1e-9])
def test_rates_of_broken_headers(tmp_path: Path, fps: float) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps) as writer:
        writer.write(frame(0))
    assert played(tmp_path / "a.mp4")[0] == 25


def test_rates_are_changed_no_more_than_needed() -> None:
    rates = [25.0, 23.976, 65.535, 65.5364, 90.123, 655.36, 1000.0, 0.01]
    assert [writable_fps(r) for r in rates] == [25.0, 23.976, 65.535, 65.54, 90.12, 655.4, 1000.0, 0.01]


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to("data.bin")  # the container is chosen by the name given
    with VideoWriter(tmp_path / "link.mp4", 25) as writer:
        writer.write(frame(0))
    assert (tmp_path / "link.mp4").is_symlink()
    assert len(played(tmp_path / "data.bin")[1]) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_that_opencv_would_crash_on(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="UTF-8"):
        VideoWriter(tmp_path / os.fsdecode(b"caf\xe9.mp4"), 25)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_written_is_kept_and_plays(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", 25) as writer:  # noqa: PT012
        for i in range(4):
            writer.write(frame(i))
        raise error
    assert len(played(tmp_path / "a.mp4")[1]) == 4
    assert len(list(tmp_path.iterdir())) == 1


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_odd_sizes_and_frames_that_change_size(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(frame(1, 63, 47))
        writer.write(frame(2, 128, 96))
    assert len(played(tmp_path / "a.mp4")[1]) == 2


@pytest.mark.parametrize(("path", "size"), [("/proc/a.mp4", (64, 48)), ("a.mp4", (9000, 20))])
def test_a_video_that_cannot_be_written(tmp_path: Path, path: str, size: tuple[int, int]) -> None:
    with pytest.raises(OutputError, match=f"{size[0]}x{size[1]} pixels"), VideoWriter(tmp_path / path, 25) as writer:
        writer.write(frame(0, *size))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_hold_its_frames_is_kept_and_is_an_error(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 25)
    with pytest.raises(OutputError, match=r"what there is of it plays.*room left"), writer:  # noqa: PT012
        writer.write(frame(0))
        writer.frames = 50  # as if the disk had swallowed 49
    assert len(played(tmp_path / "a.mp4")[1]) == 1
    assert writer.kept


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    with pytest.raises(OutputError, match="pipe or device"):
        VideoWriter(tmp_path / "link.mp4", 25)
    assert (tmp_path / "pipe.mp4").is_fifo()


NOISE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_limit_of_file_size_ends_a_video_that_plays(tmp_path: Path, suffix: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = VideoWriter(tmp_path / f"a{suffix}", 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (RESERVE + 3_000_000, before[1]))
    try:
        with pytest.raises(OutputError, match="No room is left"), writer:  # noqa: PT012
            for _ in range(200):
                writer.write(NOISE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 2 < writer.frames < 200
    assert len(played(tmp_path / f"a{suffix}")[1]) == writer.frames
    assert len(list(tmp_path.iterdir())) == 1


def test_writes_that_fail_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A quota, which nobody tells of beforehand.
    monkeypatch.setattr("keyposs_trt.video.room.resource.getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr("keyposs_trt.video.room.BUFFER", 1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = VideoWriter(tmp_path / "a.mp4", 25)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"could not be written on|does not grow"), quiet_stderr(), writer:  # noqa: PT012
            for _ in range(200):
                writer.write(NOISE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 0 < writer.frames < 200
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_small_disk(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", tmp_path], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs to be root")
    try:
        writer = VideoWriter(tmp_path / "a.mp4", 2)
        with pytest.raises(OutputError, match="No room is left"), writer:  # noqa: PT012
            for _ in range(200):
                writer.write(NOISE)
        assert len(played(tmp_path / "a.mp4")[1]) == writer.frames > 2
        assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_that_goes_away(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 1)
    with pytest.raises(OutputError, match="has gone"), writer:  # noqa: PT012
        writer.write(frame(0))
        next(tmp_path.iterdir()).unlink()
        writer.write(frame(1))
    assert list(tmp_path.iterdir()) == []
