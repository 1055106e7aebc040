"""What a SOURCE of the command line stands for."""

from __future__ import annotations

import os
import threading
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.video.capture import VideoFrames
from keyposs_trt.video.contract import Event, Source
from keyposs_trt.video.sources import ImageFrames, expand, open_source

if TYPE_CHECKING:
    from keyposs_trt.video.contract import Frame


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
    for name in ("none", "none.txt"):
        with pytest.raises(InputError, match=rf"^There is no file or folder '{folder}/{name}'; check the path\.$"):
            open_source(*expand(f"{folder}/{name}"))
    with pytest.raises(UsageError, match="An empty name is no source"):
        expand("")
    assert expand(str(folder / "none.jpg")) == [Source("image", str(folder / "none.jpg"))]  # refused when it is opened


def test_options_behind_a_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for argument, address in (
        ("clip.mp4#decoder=software", f"file://{folder}/clip.mp4#decoder=software"),
        ("clip.mp4?decoder=software", f"file://{folder}/clip.mp4#decoder=software"),
        ("/dev/null#width=640&height=480", "camera:///dev/null#width=640&height=480"),
        ("0?width=640", "camera:0#width=640"),
    ):
        with pytest.raises(UsageError) as raised:
            expand(argument)
        assert str(raised.value) == f"A plain path or number takes no options; write '{address}'."
        assert expand(address)
    (folder / "clip.mp4#a=1.mp4").write_text("x")
    assert expand("clip.mp4#a=1.mp4") == [Source("video", "clip.mp4#a=1.mp4")]
    assert expand("none.mp4#a=1.mp4") == [Source("video", "none.mp4#a=1.mp4")]  # refused when it is opened


def test_open_source(tmp_path: Path) -> None:
    image = np.full((3, 5, 3), 7, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    frames = open_source(Source("image", str(tmp_path / "a.png")))
    assert isinstance(frames, ImageFrames)
    (frame,) = frames
    assert (frame.image == image).all()
    assert (frame.index, frame.time, frames.count, frames.live) == (0, 0.0, 1, False)
    assert 0 < frame.captured <= time.monotonic()
    frames.close()
    with pytest.raises(InputError, match="There is no video"):
        open_source(Source("video", str(tmp_path / "none.mp4")))


class FakeCapture:
    """A camera of 320x240 pixels. ``reads`` tells which reads work; then it is unplugged."""

    reads = (True,) * 4
    there = True
    made: list[FakeCapture] = []  # noqa: RUF012 (of one test)

    def __init__(self, device: int | str, api: int = cv2.CAP_ANY) -> None:
        self.device, self.api, self.left, self.released = device, api, list(self.reads), False
        self.settings: list[tuple[int, float]] = []
        self.made.append(self)

    def isOpened(self) -> bool:
        return self.there and self.device in (0, "/dev/video7")

    def set(self, prop: int, value: float) -> bool:
        self.settings.append((prop, value))
        return True

    def get(self, prop: int) -> float:
        # Many cameras do not know their rate, and OpenCV's time stamps are 0 with some.
        return {cv2.CAP_PROP_FRAME_WIDTH: 320.0, cv2.CAP_PROP_FRAME_HEIGHT: 240.0}.get(prop, 0.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        ok = self.left.pop(0) if self.left else False
        return ok, np.zeros((240, 320, 3), np.uint8) if ok else None

    def release(self) -> None:
        self.released = True


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    monkeypatch.setattr(FakeCapture, "made", [])
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    return FakeCapture


def test_a_camera_that_stops(camera: type[FakeCapture]) -> None:
    frames = open_source(*expand("camera:0#reconnect=0"))
    assert (frames.live, frames.count, frames.fps) == (True, None, 25.0)
    seen: list[Frame] = []
    with pytest.raises(InputError, match=r"^Camera '0' stopped after 4 frames; plug it in again\.$"):
        seen.extend(frames)
    frames.close()
    assert [f.index for f in seen] == [0, 1, 2, 3]
    assert [f.time for f in seen] == sorted({f.time for f in seen})
    assert [c.released for c in camera.made] == [True]


def test_a_camera_that_is_plugged_in_again(camera: type[FakeCapture], monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        if event.kind == "lost":
            monkeypatch.setattr(camera, "there", False)
            threading.Thread(target=plug_in).start()

    def plug_in() -> None:
        while len(camera.made) < 2:
            time.sleep(0.01)
        camera.there = True

    frames = open_source(*expand("0"), report)
    seen = list(islice(frames, 6))
    frames.close()
    assert [f.index for f in seen] == list(range(6))
    assert [e.kind for e in events if e.kind != "corrupt"] == ["lost", "resumed"]
    assert len(camera.made) >= 3  # one attempt at least was in vain
    assert all(c.released for c in camera.made)


def test_a_frame_that_a_camera_cannot_decode(camera: type[FakeCapture], monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    monkeypatch.setattr(camera, "reads", (True, False, False, True, True))
    frames = open_source(*expand("0"), events.append)
    assert [f.index for f in islice(frames, 3)] == [0, 1, 2]
    frames.close()
    assert [e.kind for e in events] == ["corrupt", "corrupt"]


def test_camera_options(camera: type[FakeCapture]) -> None:
    events: list[Event] = []
    frames = open_source(*expand("v4l2:///dev/video7?width=320&height=200&fps=30&format=MJPG"), events.append)
    frames.close()
    (made,) = camera.made
    assert (made.device, made.api) == ("/dev/video7", cv2.CAP_V4L2)
    assert made.settings == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 320),
        (cv2.CAP_PROP_FRAME_HEIGHT, 200),
        (cv2.CAP_PROP_FPS, 30),
    ]
    assert [e.text for e in events] == ["Camera '/dev/video7' gives 320x240 pixels where 320x200 were asked for."]


def test_a_camera_that_is_not_there(camera: type[FakeCapture]) -> None:
    sentence = r"^Camera '3' cannot be opened; check that it is plugged in, free, and that you may use /dev/video\*\.$"
    with pytest.raises(InputError, match=sentence):
        open_source(Source("camera", "3"))
    assert [c.released for c in camera.made] == [True]


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
