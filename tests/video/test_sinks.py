"""Names of outputs never clash nor hit a source; videos are finished whatever happens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.video.contract import Source
from keyposs_trt.video.sinks import CODECS, VideoSink, plan_outputs, writable_fps

if TYPE_CHECKING:
    from pathlib import Path


def image(name: object) -> Source:
    return Source("image", str(name))


def plan(sources: list[Source], out: object, root: Path) -> list[str]:
    return [str(p.relative_to(root)) for p in plan_outputs(sources, str(out))]


def test_one_source_names_a_file_or_a_folder(tmp_path: Path) -> None:
    assert plan([image("a.jpg")], tmp_path / "x.png", tmp_path) == ["x.png"]
    assert plan([image("in/a.jpg")], tmp_path / "out", tmp_path) == ["out/a.jpg"]
    assert plan([Source("video", "in/a.webm")], tmp_path / "y.MP4", tmp_path) == ["y.MP4"]
    (tmp_path / "folder.png").mkdir()
    assert plan([image("a.jpg")], tmp_path / "folder.png", tmp_path) == ["folder.png/a.jpg"]
    assert plan([image("a.jpg")], f"{tmp_path}/dir.jpg/", tmp_path) == ["dir.jpg/a.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir.jpg", "folder.png", "out"]  # folders are made and empty
    assert not any((tmp_path / "out").iterdir())


def test_names_are_kept_where_the_format_can_be_written_and_told_apart(tmp_path: Path) -> None:
    sources = [
        image("a/x.jpg"),
        image("b/X.JPG"),
        image("c/x.jpg"),
        image("x-2.jpg"),
        image("anim.gif"),
        image("noname"),
        Source("video", "x.webm"),
        Source("video", "y.mkv"),
        Source("camera", "0"),
        Source("camera", "/dev/video2"),
    ]
    assert plan(sources, tmp_path / "out", tmp_path / "out") == [
        "x.jpg", "X-2.JPG", "x-3.jpg", "x-2-2.jpg", "anim.png", "noname.png", "x.mp4", "y.mkv", "camera0.mp4", "cameravideo2.mp4",
    ]  # fmt: skip


def test_sources_are_never_overwritten(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    both = [image(tmp_path / "a.jpg"), image(tmp_path / "b.jpg")]
    for sources, out in (
        (both, tmp_path),
        (both[:1], tmp_path / "a.jpg"),
        (both[:1], tmp_path / "link.jpg"),
        (both[:1], tmp_path / "." / "a.jpg"),
    ):
        with pytest.raises(UsageError, match=r"overwrite the source '.*a\.jpg'"):
            plan_outputs(sources, str(out))


def test_outs_that_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    two = [image("a.jpg"), image("b.jpg")]
    with pytest.raises(UsageError, match="2 sources; give a folder"):
        plan_outputs(two, str(tmp_path / "x.jpg"))
    with pytest.raises(UsageError, match="no known picture or video format"):
        plan_outputs(two, str(tmp_path / "file"))
    with pytest.raises(UsageError, match="may end in"):
        plan_outputs(two[:1], str(tmp_path / "x.mp4"))
    with pytest.raises(UsageError, match="may end in"):
        plan_outputs([Source("video", "a.mp4")], str(tmp_path / "x.webm"))
    with pytest.raises(OutputError, match="Cannot write to folder"):
        plan_outputs(two, str(tmp_path / "file" / "below"))
    with pytest.raises(OutputError, match="Cannot write to folder"):
        plan_outputs(two, "/proc")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_pipe_or_an_endless_name_is_refused_before_the_work(tmp_path: Path) -> None:
    for name in ("pipe.png", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    clip = Source("video", "a.mp4")
    for source, name in ((image("a.jpg"), "pipe.png"), (clip, "pipe.mp4"), (clip, "link.mp4")):
        with pytest.raises(OutputError, match="pipe or device"):
            plan_outputs([source], str(tmp_path / name))
    with pytest.raises(OutputError, match="too long"):
        plan_outputs([image("a.jpg")], str(tmp_path / ("x" * 300)))
    with pytest.raises(OutputError, match="pipe or device"):
        VideoSink(tmp_path / "link.mp4", 25)
    assert (tmp_path / "pipe.png").is_fifo()
    assert (tmp_path / "pipe.mp4").is_fifo()
    assert (tmp_path / "link.mp4").is_symlink()


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
    with VideoSink(tmp_path / f"a{suffix}", fps) as sink:
        for i in range(10):
            sink.write(frame(i))
            assert not (tmp_path / f"a{suffix}").exists()
    rate, means = played(tmp_path / f"a{suffix}")
    assert rate == pytest.approx(fps, rel=1e-3)
    assert means == pytest.approx([10 * i for i in range(10)], abs=4)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("fps", [90.123, 239.123, 999.99, 0.0123])
def test_rates_with_many_decimals(tmp_path: Path, suffix: str, fps: float) -> None:
    with VideoSink(tmp_path / f"a{suffix}", fps) as sink:
        for i in range(3):
            sink.write(frame(i))
    rate, means = played(tmp_path / f"a{suffix}")
    assert rate == pytest.approx(fps, rel=1e-4, abs=1e-3)
    assert len(means) == 3


@pytest.mark.parametrize("fps", [0.0, -5.0, float("nan"), float("inf"), 1e9, 1e-9])
def test_rates_of_broken_headers(tmp_path: Path, fps: float) -> None:
    with VideoSink(tmp_path / "a.mp4", fps) as sink:
        sink.write(frame(0))
    assert played(tmp_path / "a.mp4")[0] == 25


def test_rates_are_changed_no_more_than_needed() -> None:
    rates = [25.0, 23.976, 65.535, 65.5364, 90.123, 655.36, 1000.0, 0.01]
    assert [writable_fps(r) for r in rates] == [25.0, 23.976, 65.535, 65.54, 90.12, 655.4, 1000.0, 0.01]


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to("data.bin")  # the container is chosen by the name given
    with VideoSink(tmp_path / "link.mp4", 25) as sink:
        sink.write(frame(0))
    assert (tmp_path / "link.mp4").is_symlink()
    assert len(played(tmp_path / "data.bin")[1]) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_that_opencv_would_crash_on(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="UTF-8"):
        VideoSink(tmp_path / os.fsdecode(b"caf\xe9.mp4"), 25)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_written_is_kept_and_plays(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), VideoSink(tmp_path / "a.mp4", 25) as sink:  # noqa: PT012
        for i in range(4):
            sink.write(frame(i))
        raise error
    assert len(played(tmp_path / "a.mp4")[1]) == 4
    assert len(list(tmp_path.iterdir())) == 1


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "a.mp4", 25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_odd_sizes_and_frames_that_change_size(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "a.mp4", 25) as sink:
        sink.write(frame(1, 63, 47))
        sink.write(frame(2, 128, 96))
    assert len(played(tmp_path / "a.mp4")[1]) == 2


@pytest.mark.parametrize(("path", "size"), [("/proc/a.mp4", (64, 48)), ("a.mp4", (9000, 20))])
def test_a_video_that_cannot_be_written(tmp_path: Path, path: str, size: tuple[int, int]) -> None:
    with pytest.raises(OutputError, match=f"{size[0]}x{size[1]} pixels"), VideoSink(tmp_path / path, 25) as sink:
        sink.write(frame(0, *size))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_hold_its_frames_is_an_error(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", 25)
    with pytest.raises(OutputError, match="room left"), sink:  # noqa: PT012
        sink.write(frame(0))
        sink.frames = 50  # as if the disk had swallowed 49
    assert list(tmp_path.iterdir()) == []
