"""What a SOURCE of the command line stands for."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.video.capture import CameraFrames, VideoFrames
from keyposs_trt.video.contract import Source
from keyposs_trt.video.sources import ImageFrames, expand, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.PNG", "a.jpg", "clip.mp4", "notes.txt", "deep/c.jpg", "strange[1].jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def names(sources: list[Source], folder: Path) -> list[tuple[str, str]]:
    return [(s.kind, str(Path(s.name).relative_to(folder))) for s in sources]


def test_camera_by_number_and_by_device() -> None:
    assert expand("0") == [Source("camera", "0")]
    assert expand("/dev/null") == [Source("camera", "/dev/null")]  # any character device


def test_folder_gives_its_images_and_videos_by_name(folder: Path) -> None:
    assert names(expand(str(folder)), folder) == [
        ("image", "a.jpg"),
        ("image", "b.PNG"),
        ("video", "clip.mp4"),
        ("image", "strange[1].jpg"),
    ]


def test_patterns(folder: Path) -> None:
    assert names(expand(str(folder / "*.jpg")), folder) == [("image", "a.jpg"), ("image", "strange[1].jpg")]
    assert ("image", "deep/c.jpg") in names(expand(str(folder / "**" / "*")), folder)
    # A file whose name looks like a pattern is that file.
    assert names(expand(str(folder / "strange[1].jpg")), folder) == [("image", "strange[1].jpg")]


def test_hidden_files_are_left_out(folder: Path) -> None:
    for name in ("._a.jpg", ".clip.1234abcd.mp4", "deep/._c.jpg", ".trash/d.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    for argument in (folder, folder / "*", folder / "**" / "*"):
        assert not [n for _, n in names(expand(str(argument)), folder) if "/." in f"/{n}"]
    assert len(expand(str(folder))) == 4
    assert names(expand(str(folder / "._a.jpg")), folder) == [("image", "._a.jpg")]  # asked for by name
    (folder / "only").mkdir()
    (folder / "only" / "._a.jpg").write_text("x")
    with pytest.raises(InputError, match="no image or video in folder"):
        expand(str(folder / "only"))


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".jpg", "x" * 300 + ".mp4", "x" * 300 + "*"])
def test_a_name_no_file_system_takes(name: str) -> None:
    with pytest.raises(InputError, match=r"too long|matches"):
        open_source(*expand(name))


@pytest.mark.parametrize("name", [b"caf\xe9", b"caf\xe9.jpg", b"caf\xe9.mp4"])
def test_a_name_that_opencv_would_crash_on(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    if path.suffix == ".mp4":
        path.write_bytes(b"x")
        with pytest.raises(InputError, match="UTF-8"):
            open_source(*expand(str(path)))
    else:
        path.write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
        assert isinstance(open_source(*expand(str(path))), ImageFrames)


def test_a_file_of_unknown_suffix_is_known_by_its_content(folder: Path) -> None:
    cv2.imwrite(str(folder / "p.png"), np.zeros((4, 4, 3), np.uint8))
    (folder / "p.png").rename(folder / "upload")
    assert expand(str(folder / "upload")) == [Source("image", str(folder / "upload"))]
    assert expand(str(folder / "notes.txt")) == [Source("video", str(folder / "notes.txt"))]


def test_what_is_not_there(folder: Path) -> None:
    (folder / "empty").mkdir()
    for argument, words in (("empty", "no image or video in folder"), ("*.gif", "matches"), ("*.txt", "matches")):
        with pytest.raises(InputError, match=words):
            expand(str(folder / argument))
    assert expand(str(folder / "none.jpg")) == [Source("image", str(folder / "none.jpg"))]  # refused when it is opened
    with pytest.raises(UsageError, match="not supported"):
        expand("rtsp://camera.local/1")


def test_open_source(tmp_path: Path) -> None:
    image = np.full((3, 5, 3), 7, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    frames = open_source(Source("image", str(tmp_path / "a.png")))
    assert isinstance(frames, ImageFrames)
    (frame,) = frames
    assert (frame.image == image).all()
    assert (frame.index, frame.time, frames.count, frames.live) == (0, 0.0, 1, False)
    frames.close()
    with pytest.raises(InputError, match="There is no video"):
        open_source(Source("video", str(tmp_path / "none.mp4")))


class FakeCapture:
    """A camera of four frames."""

    def __init__(self, device: int | str) -> None:
        self.device, self.left = device, 4

    def isOpened(self) -> bool:
        return self.device in (0, "/dev/video7")

    def get(self, _: int) -> float:
        return 0.0  # many cameras do not know their rate

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return self.left >= 0, np.zeros((2, 2, 3), np.uint8)

    def release(self) -> None: ...


def test_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    frames = open_source(Source("camera", "0"))
    assert isinstance(frames, CameraFrames)
    assert (frames.live, frames.count, frames.fps) == (True, None, 25.0)
    seen: list[tuple[int, bool]] = []
    with pytest.raises(InputError, match="stopped after 4 frames"):
        seen.extend((f.index, f.time >= 0) for f in frames)
    assert seen == [(0, True), (1, True), (2, True), (3, True)]
    CameraFrames("/dev/video7").close()
    with pytest.raises(InputError, match="Camera '3' cannot be opened"):
        open_source(Source("camera", "3"))


@pytest.mark.parametrize("number", ["99999999999", "9" * 5000])
def test_a_camera_number_out_of_range(number: str) -> None:
    with pytest.raises(InputError, match=rf"^Camera '{number}' cannot be opened"):
        open_source(*expand(number))


def test_video_opens(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 32))
    writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.release()
    frames = open_source(Source("video", str(tmp_path / "a.avi")))
    assert isinstance(frames, VideoFrames)
    frames.close()
