"""Sources through a child process of GStreamer, and what is read from its pipe."""

from __future__ import annotations

import os
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from gst_tools import children, need_gstreamer, open_files

from keyposs_trt.errors import InputError
from keyposs_trt.video import decoders, gstreamer
from keyposs_trt.video.decoders import missing_elements
from keyposs_trt.video.feeds import BrokenError
from keyposs_trt.video.gdp import Caps, Header, parse_caps, parse_header
from keyposs_trt.video.gstreamer import GstFeed, csi_pipeline, file_pipeline, open_rtsp, rtsp_pipeline
from keyposs_trt.video.sources import expand, open_source
from keyposs_trt.video.streams import Label, Patience, StreamFrames

if TYPE_CHECKING:
    from pathlib import Path

    from keyposs_trt.video.contract import Event

BALL = "videotestsrc num-buffers={} pattern=ball ! video/x-raw,width={},height=48,framerate=10/1"
BGR = "! videoconvert ! video/x-raw,format=BGR"
SILENT = f"videotestsrc is-live=true {BGR} ! valve drop=true"


def feed(words: str, *, live: bool = False) -> GstFeed:
    return GstFeed(words.split(), live=live)


def test_headers_and_caps() -> None:
    data = bytes([1, 0, 0, 0, 0, 1]) + (300).to_bytes(4, "big") + (2_500_000_000).to_bytes(8, "big") + bytes(44)
    assert parse_header(data) == Header("buffer", 300, 2.5)
    assert parse_header(bytes([1, 0, 0, 0, 0, 2]) + bytes(4) + b"\xff" * 8 + bytes(44)) == Header("caps", 0, None)
    assert parse_header(bytes([1, 0, 0, 0, 0, 78]) + bytes(56)).kind == "other"
    with pytest.raises(BrokenError, match="unknown format"):
        parse_header(bytes([0, 2]) + bytes(60))
    text = b"video/x-raw, width=(int)320, height=(int)240, framerate=(fraction)30000/1001, format=(string)BGR\0"
    assert parse_caps(text) == Caps(320, 240, pytest.approx(29.97, abs=0.01))
    assert parse_caps(b"video/x-raw, format=(string)BGR, width=(int)3, height=(int)2;") == Caps(3, 2, 0)
    for wrong in (b"audio/x-raw", b"video/x-raw, format=(string)NV12, width=(int)3, height=(int)2"):
        with pytest.raises(BrokenError):
            parse_caps(wrong)


@pytest.mark.parametrize("width", [64, 61, 62, 63])
def test_every_picture_with_its_time(width: int) -> None:
    need_gstreamer()
    pictures = feed(f"{BALL.format(5, width)} {BGR}")
    assert (pictures.fps, pictures.live, pictures.count) == (10, False, None)
    seen = []
    while (picture := pictures.read()) is not None:
        assert picture.image is not None
        seen.append(picture)
    pictures.close()
    assert [p.stamp for p in seen] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert {p.image.shape for p in seen} == {(48, width, 3)}
    image = seen[0].image
    assert (image[..., 0] == image[..., 2]).all()  # a white ball on black: no row is shifted by its padding
    assert image.max() > 200
    assert children() == []


def test_pipelines_that_fail_say_why() -> None:
    need_gstreamer()
    for words, reason in (
        ("nosuchelement ! fakesink", 'no element "nosuchelement"'),
        ("filesrc location=/none.mp4 ! decodebin", 'Resource not found|Could not open file|"/none.mp4"'),
        (BALL.format(2, 64), "no pictures in BGR"),
    ):
        with pytest.raises(BrokenError, match=reason):
            feed(words)
    live = feed(f"{BALL.format(2, 64)} {BGR}", live=True)
    assert live.read()
    assert live.read()
    with pytest.raises(BrokenError, match="GStreamer ended"):
        live.read()
    live.close()
    assert children() == []


def test_without_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(BrokenError, match="no gst-launch") as raised:
        feed(BALL)
    assert "install gstreamer1.0-tools" in raised.value.remedy
    with pytest.raises(InputError, match=r"^Camera 'csi://0' cannot be opened: there is no gst-launch-1\.0; install gstreamer1\.0-tools"):
        open_source(*expand("csi://0"))


def test_without_an_element() -> None:
    need_gstreamer()
    with pytest.raises(BrokenError, match='no element "nosuch"') as raised:
        feed(f"nosuch {BGR}")
    assert raised.value.remedy.startswith("install gstreamer1.0-tools")
    if not missing_elements(("nvarguscamerasrc",)):
        pytest.skip("this is a Jetson")
    with pytest.raises(InputError, match=r'no element "nvarguscamerasrc"; that takes a Jetson with nvidia-l4t-gstreamer installed\.$'):
        open_source(*expand("csi://0"))


def test_nobody_at_the_address() -> None:
    with pytest.raises(BrokenError, match="connection refused"):
        open_rtsp("rtsp://127.0.0.1:1/x", {}, 5.0, "software")


def test_fifty_times_leave_no_process_and_no_descriptor() -> None:
    need_gstreamer()
    words = f"videotestsrc is-live=true {BGR},width=64,height=48"

    def once() -> None:
        frames = StreamFrames(Label("x", "", ""), lambda: feed(words, live=True), lambda _: None, Patience())
        next(iter(frames))
        frames.close()

    once()
    files, threads = open_files(), threading.active_count()
    for _ in range(50):
        once()
    assert children() == []
    assert (open_files(), threading.active_count()) == (files, threads)


def test_a_child_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A driver that hangs: the child ignores the request to end, and sends nothing more."""
    script = tmp_path / "gst-launch-1.0"
    script.write_text("#!/bin/sh\ntrap '' INT TERM\ncat $CONTENT\nwhile :; do sleep 0.1; done\n")
    script.chmod(0o755)
    text = b"video/x-raw, format=(string)BGR, width=(int)4, height=(int)2\0"
    content = bytes([1, 0, 0, 0, 0, 2]) + len(text).to_bytes(4, "big") + bytes(52) + text
    (tmp_path / "content").write_bytes(content + bytes([1, 0, 0, 0, 0, 1]) + (24).to_bytes(4, "big") + bytes(52) + bytes(24))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CONTENT", str(tmp_path / "content"))
    frames = StreamFrames(Label("x", "", ""), lambda: feed("a ! b", live=True), lambda _: None, Patience(timeout=60))
    assert next(iter(frames)).image.shape == (2, 4, 3)
    begin = time.monotonic()
    frames.close()
    assert time.monotonic() - begin < 10
    while children() and time.monotonic() - begin < 20:
        time.sleep(0.02)
    assert children() == []


def test_a_source_without_a_first_picture_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    need_gstreamer("valve")
    monkeypatch.setattr(gstreamer, "_FIRST", 0.25)
    files = open_files()
    with pytest.raises(BrokenError, match=r"^GStreamer gives no picture for 0\.5 s$"):
        GstFeed(SILENT.split(), live=True, timeout=0.25)
    assert children() == []
    assert open_files() == files


def test_a_source_without_a_first_picture_is_tried_again_until_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own limit is far away: it must notice by itself that nobody waits for it any more."""
    need_gstreamer("valve")
    for name, value in (("SHORTEST", 0.01), ("_OPENING", 0.0), ("_CLOSING", 30.0)):
        monkeypatch.setattr(f"keyposs_trt.video.streams.{name}", value)
    attempts, third = [], threading.Event()

    def connect() -> GstFeed:
        attempts.append(children())
        if len(attempts) == 3:
            third.set()
        return GstFeed(SILENT.split(), live=True, timeout=600)

    with pytest.raises(InputError, match=r"no answer for 0\.2 s"):
        StreamFrames(Label("x", "", ""), connect, lambda _: None, Patience(timeout=0.2))
    assert children() == []
    frames = StreamFrames(Label("x", "", ""), connect, lambda _: None, Patience(timeout=0.2, wait=True))
    thread = threading.Thread(target=list, args=(frames,), daemon=True)
    thread.start()
    assert third.wait(60)
    frames.close()
    thread.join(60)
    assert not thread.is_alive()
    assert children() == []
    assert not any(attempts)


def test_a_file_upright_and_to_its_end(tmp_path: Path) -> None:
    need_gstreamer("avidemux", "jpegdec", "videoflip")
    path = tmp_path / "a b!.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(12):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.release()
    label = Label("x", "", "")
    frames = StreamFrames(label, lambda: GstFeed(file_pipeline(str(path), "software"), live=False), lambda _: None, Patience())
    seen = list(frames)
    frames.close()
    assert [f.image.mean() for f in seen] == pytest.approx([10 * i for i in range(12)], abs=3)
    assert [f.time for f in seen] == pytest.approx([i / 10 for i in range(12)], abs=1e-3)
    assert children() == []


def test_words_of_pipelines() -> None:
    words = rtsp_pipeline('rtsp://a/" ! filesink location="/x\\', {"transport": "udp", "latency": "10"}, 5.0, "nvv4l2")
    assert words[:3] == ["rtspsrc", 'location="rtsp://a/\\" ! filesink location=\\"/x\\\\"', "protocols=udp"]
    assert words[3:5] == ["latency=10", "tcp-timeout=5000000"]
    assert "nvvidconv" in words
    assert words[-1] == "video/x-raw,format=BGR"
    words = csi_pipeline("1", {"width": "1280", "height": "720", "fps": "30", "flip": "2"})
    assert words[:2] == ["nvarguscamerasrc", "sensor-id=1"]
    assert "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1" in words
    assert "flip-method=2" in words
    assert "framerate=29970/1000" in ",".join(csi_pipeline("0", {"fps": "29.97"}))


def test_an_address_cannot_become_a_pipeline(tmp_path: Path) -> None:
    need_gstreamer("rtspsrc")
    target = tmp_path / "x"
    with pytest.raises(BrokenError):
        GstFeed(rtsp_pipeline(f'rtsp://127.0.0.1:1/" ! filesink location="{target}', {}, 5.0, "software"), live=True)
    assert not target.exists()


@pytest.mark.parametrize(
    ("options", "installed", "jetson", "choice", "words"),
    [
        ({}, set(), False, decoders.Choice(False), ""),
        ({"decoder": "software"}, set(), True, decoders.Choice(False), ""),
        ({"decoder": "nvv4l2"}, {"gst"}, False, decoders.Choice(False), "no nvv4l2decoder; on a Jetson install nvidia-l4t-gstreamer"),
        ({"decoder": "nvdec"}, set(), False, decoders.Choice(False), "no gst-launch-1.0; install gstreamer1.0-tools"),
        ({"decoder": "nvdec"}, {"gst", "nvh264dec"}, False, decoders.Choice(True, "nvdec"), ""),
        ({"decoder": "nvdec", "backend": "ffmpeg"}, {"gst", "nvh264dec"}, False, decoders.Choice(False), "leave backend=ffmpeg out"),
        ({}, {"gst", "nvv4l2decoder", "nvvidconv"}, True, decoders.Choice(True, "nvv4l2"), ""),
        ({}, {"gst"}, True, decoders.Choice(False), "is decoded in software: GStreamer here has no nvv4l2decoder"),
        ({"backend": "ffmpeg"}, {"gst"}, True, decoders.Choice(False), ""),
        ({"backend": "gstreamer"}, {"gst"}, False, decoders.Choice(True), ""),
        ({"backend": "gstreamer"}, set(), False, decoders.Choice(False), "is read by FFmpeg: GStreamer here has no gst-launch-1.0"),
    ],
)
def test_the_choice_of_decoder(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str], installed: set[str], jetson: bool, choice: decoders.Choice, words: str
) -> None:
    def missing(names: tuple[str, ...]) -> list[str]:
        have = {*installed, *(decoders._NEEDED if "gst" in installed else ())}
        return [n for n in (*([] if "gst" in installed else ["gst-launch-1.0"]), *names) if n not in have]

    monkeypatch.setattr(decoders, "missing_elements", missing)
    monkeypatch.setattr(decoders, "on_jetson", lambda: jetson)
    events: list[Event] = []
    assert decoders.choose("Stream 'x'", options, events.append) == choice
    assert [e.kind for e in events] == ["fallback"] * bool(words)
    assert all(words in e.text for e in events)


def test_a_video_falls_back_to_software(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "missing_elements", list)
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    events: list[Event] = []
    frames = open_source(*expand((tmp_path / "a.avi").as_uri() + "#decoder=nvv4l2"), events.append)
    assert len(list(islice(frames, 5))) == 1
    frames.close()
    assert [e.kind for e in events] == ["fallback"]
    assert set(gstreamer._RANKS) == {"software", *decoders._ELEMENTS}


def test_whether_this_is_a_jetson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(decoders, "_COMPATIBLE", tmp_path / "compatible")
    assert not decoders.on_jetson()
    (tmp_path / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0")
    assert decoders.on_jetson()
