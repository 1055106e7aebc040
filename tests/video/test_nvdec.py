"""Video files through PyNvVideoCodec, played by a fake of it."""

from __future__ import annotations

import os
import struct
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from fake_nvdec import CAPS, COUNT, NO_PTS, FakeCuda, Gpu, H, W, fake_module, picture

from keyposs_trt.errors import InputError
from keyposs_trt.video import decoders, nvdec
from keyposs_trt.video.capture import VideoFrames
from keyposs_trt.video.decoders import Choice, NotInstalledError, choose, wants_nvdec
from keyposs_trt.video.feeds import BrokenError
from keyposs_trt.video.nvdec import NvdecFeed, open_nvdec
from keyposs_trt.video.sources import expand, open_source
from keyposs_trt.video.streams import StreamFrames

if TYPE_CHECKING:
    from keyposs_trt.video.contract import Event


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake_module(gpu))
    monkeypatch.setattr(nvdec, "load_cuda", lambda: FakeCuda(gpu))
    return gpu


@pytest.fixture
def clip(tmp_path: Path) -> str:
    path = str(tmp_path / "clip.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 10, (W, H))
    for number in range(COUNT):
        writer.write(picture(number, (H, W))[..., ::-1].copy())
    writer.release()
    return path


def turned(path: str, angle: int) -> str:
    """The same file, with the matrix of its track header saying that it is to be turned clockwise by so many degrees."""
    data = bytearray(Path(path).read_bytes())
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[angle]
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path = path.replace("clip", f"turned{angle}")
    Path(path).write_bytes(data)
    return path


def free(gpu: Gpu) -> bool:
    return not gpu.held and gpu.contexts == 0


def test_every_frame_in_bgr_with_its_time(gpu: Gpu, clip: str) -> None:
    events: list[Event] = []
    frames = open_nvdec(clip, events.append)
    assert (frames.fps, frames.count, frames.live) == (10, COUNT, False)
    seen = list(frames)
    frames.close()
    assert [f.index for f in seen] == list(range(COUNT))
    assert [f.time for f in seen] == pytest.approx([i / 10 for i in range(COUNT)])
    for number, frame in enumerate(seen):
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        np.testing.assert_array_equal(frame.image, picture(number, (H, W))[..., ::-1])
    assert events == []
    assert free(gpu)
    made = [call for call in gpu.calls if call[:3] in ("Cre", "Get") and "PtrTo" not in call and "base" not in call]
    assert made == ["CreateDemuxer", "GetNvCodecId", "GetDecoderCaps", "CreateDecoder"]
    assert gpu.calls.count("Decode") == COUNT + 1


def test_times_are_those_of_the_container(gpu: Gpu, clip: str) -> None:
    gpu.pts = [1000, 1512, 6632, 6633, 7656, 8168]  # no fixed rate, and no start at 0
    with_rate = [(p - 1000) / 5120 for p in gpu.pts]
    assert [f.time for f in open_nvdec(clip, print)] == pytest.approx(with_rate)
    gpu.given = [1000, 28713504, 6632, 6633, 7656, NO_PTS]  # the driver makes two of them up
    times = [f.time for f in open_nvdec(clip, print)]
    assert times == pytest.approx([0, 0.1, *with_rate[2:5], with_rate[4] + 0.1])
    gpu.pts, gpu.given = [NO_PTS] * COUNT, None
    assert [f.time for f in open_nvdec(clip, print)] == pytest.approx([i / 10 for i in range(COUNT)])


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_turned_as_opencv_turns_it(gpu: Gpu, clip: str, angle: int) -> None:
    path = turned(clip, angle)
    frames = open_nvdec(path, print)
    image = next(iter(frames)).image
    frames.close()
    _, expected = cv2.VideoCapture(path).read()
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 12  # the codec's loss; turned the other way it is 20 and more


def test_another_size_in_between(gpu: Gpu, clip: str) -> None:
    gpu.sizes = [(H, W)] * 3 + [(H // 2, W // 2)] * 3
    events: list[Event] = []
    shapes = [f.image.shape[:2] for f in open_nvdec(clip, events.append)]
    assert shapes == gpu.sizes
    assert [(e.kind, e.text) for e in events] == [("resized", f"The video '{clip}' changed from 64x48 to 32x24 pixels.")]


@pytest.mark.parametrize(
    "call",
    [
        *("CreateDemuxer", "FrameRate", "GetTimebaseNum", "GetTimebaseDen", "GetNvCodecId", "ChromaFormat", "BitDepth", "Width"),
        *("GetDecoderCaps", "CreateDecoder", "next", "Decode", "SyncOnCUStream", "framesize", "GetPtrToPlane", "getPTS"),
    ],
)
def test_what_fails_at_the_start(gpu: Gpu, clip: str, call: str) -> None:
    gpu.fail = call
    events: list[Event] = []
    with pytest.raises(BrokenError, match=f"{call} returned error 100$|libnvcuvid.so.1$") as raised:
        open_nvdec(clip, events.append)
    assert raised.value.remedy
    assert "/project" not in str(raised.value)
    assert events == []
    del raised
    wait_until_free(gpu)


def wait_until_free(gpu: Gpu) -> None:
    """Whether everything is, once the threads ended; no garbage collection helps."""
    for thread in threading.enumerate():
        if thread.name == "feed":
            thread.join(30)
    assert free(gpu)


@pytest.mark.parametrize(("call", "time"), [("next", 5), ("Decode", 5), ("SyncOnCUStream", 3), ("framesize", 3), ("getPTS", 3)])
def test_what_fails_later_breaks_the_video_off(gpu: Gpu, clip: str, call: str, time: int) -> None:
    gpu.fail, gpu.fail_at = call, time
    frames = open_nvdec(clip, print)
    seen = []
    with pytest.raises(
        InputError, match=rf"^The video '.*' stopped after 2 frames: {call} returned error 100; copy it again, or leave decoder"
    ):
        seen.extend(frames)
    frames.close()
    wait_until_free(gpu)


def test_without_gpu(gpu: Gpu, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of these reaches PyNvVideoCodec, which would end the process."""
    for name, words in (
        *((name, "CUDA finds no GPU") for name in ("cuInit", "cuDeviceGetCount")),
        *((name, "no room for another") for name in ("cuDeviceGet", "cuDevicePrimaryCtxRetain")),
    ):
        gpu.cuda = {name: 100}
        with pytest.raises(BrokenError, match=words) as raised:
            NvdecFeed(clip)
        assert raised.value.remedy
    gpu.cuda, gpu.devices = {}, 0
    with pytest.raises(BrokenError, match="CUDA finds no GPU"):
        NvdecFeed(clip)

    def none() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(nvdec, "load_cuda", none)
    with pytest.raises(BrokenError, match="no NVIDIA driver"):
        open_nvdec(clip, print)
    assert gpu.calls == []
    assert gpu.contexts == 0


def test_what_the_gpu_cannot_decode(gpu: Gpu, clip: str) -> None:
    for caps, words in (
        ({"supported": 0}, "no H264 of 8 bits"),
        ({"width_max": 32}, "no H264 of 64x48 pixels"),
        ({"height_min": 64}, "no H264 of 64x48 pixels"),
    ):
        gpu.caps = {**CAPS, **caps}
        with pytest.raises(BrokenError, match=words):
            open_nvdec(clip, print)
    gpu.caps, gpu.shown = dict(CAPS), 0
    with pytest.raises(BrokenError, match="gives no picture"):
        open_nvdec(clip, print)
    assert "CreateDecoder" in gpu.calls
    gpu.shown, gpu.sizes = COUNT, [(H, W, 1)] * COUNT  # type: ignore[list-item]
    with pytest.raises(BrokenError, match="where RGB was asked for"):
        open_nvdec(clip, print)
    wait_until_free(gpu)


def test_an_end_that_is_missing(gpu: Gpu, clip: str) -> None:
    writer = cv2.VideoWriter(clip, cv2.VideoWriter.fourcc(*"mp4v"), 10, (W, H))
    for _ in range(30):
        writer.write(np.zeros((H, W, 3), np.uint8))
    writer.release()
    with pytest.raises(InputError, match=r"stopped after 6 frames: of 30 the rest is missing; copy it again"):
        list(open_nvdec(clip, print))


def test_closed_by_another_thread(gpu: Gpu, clip: str) -> None:
    gpu.blocking = threading.Event()
    frames = open_nvdec(clip, print)
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.extend(f.index for f in frames))
    reader.start()
    assert gpu.reached.wait(30)
    frames.close()
    reader.join(30)
    assert not reader.is_alive()
    assert len(seen) <= 1
    gpu.blocking.set()
    wait_until_free(gpu)
    frames.close()


def test_its_warnings_stay_away_from_the_standard_output(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    level: list[str | None] = []
    module = sys.modules["PyNvVideoCodec"]
    monkeypatch.setattr(nvdec.importlib, "import_module", lambda name: level.append(os.environ.get("LOGGER_LEVEL")) or module)
    monkeypatch.delenv("LOGGER_LEVEL", raising=False)
    assert nvdec._load() is module
    assert "LOGGER_LEVEL" not in os.environ
    monkeypatch.setenv("LOGGER_LEVEL", "TRACE")
    nvdec._load()
    assert level == ["ERROR", "TRACE"]


def test_a_module_that_does_not_import(gpu: Gpu, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("Failed to load NVENC library: libnvidia-encode.so.1\n\n=== TROUBLESHOOTING STEPS ===\n\nThe NVENC library")

    monkeypatch.setattr(nvdec.importlib, "import_module", fail)
    with pytest.raises(BrokenError, match=r"^PyNvVideoCodec says: Failed to load NVENC library: libnvidia-encode\.so\.1$") as raised:
        open_nvdec(clip, print)
    assert "NVIDIA_DRIVER_CAPABILITIES" in raised.value.remedy
    monkeypatch.setattr(nvdec, "find_spec", lambda name: None)
    with pytest.raises(NotInstalledError, match="there is no PyNvVideoCodec"):
        open_nvdec(clip, print)


def test_what_is_no_video(gpu: Gpu, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(BrokenError, match="FFmpeg finds no video"):
        open_nvdec(str(path), print)
    assert gpu.calls == []


@pytest.mark.parametrize(
    ("failure", "gstreamer", "choice", "text"),
    [
        (NotInstalledError("there is no PyNvVideoCodec", "pip"), True, Choice(True, "nvdec"), ""),
        (BrokenError("CUDA finds no GPU", "look"), True, Choice(True, "nvdec"), "x is decoded by GStreamer: CUDA finds no GPU; look."),
        (
            NotInstalledError("there is no PyNvVideoCodec", "pip"),
            False,
            Choice(False),
            "x is decoded in software: there is no PyNvVideoCodec, and GStreamer here has no nvh264dec; pip.",
        ),
        (
            BrokenError("CUDA finds no GPU", "look"),
            False,
            Choice(False),
            "x is decoded in software: CUDA finds no GPU, and GStreamer here has no nvh264dec; look.",
        ),
    ],
)
def test_what_takes_its_place(monkeypatch: pytest.MonkeyPatch, failure: BrokenError, gstreamer: bool, choice: Choice, text: str) -> None:
    monkeypatch.setattr(decoders, "missing_elements", lambda names: [] if gstreamer else ["nvh264dec"])
    events: list[Event] = []
    assert choose("x", {"decoder": "nvdec"}, events.append, failure) == choice
    assert [e.text for e in events] == [text][: bool(text)]
    assert all(e.kind == "fallback" for e in events)


def test_who_is_asked() -> None:
    assert wants_nvdec({"decoder": "nvdec"})
    for options in ({}, {"decoder": "auto"}, {"decoder": "nvv4l2"}, {"decoder": "nvdec", "backend": "gstreamer"}):
        assert not wants_nvdec(options)


def test_the_whole_way(gpu: Gpu, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with decoder=nvdec goes to PyNvVideoCodec, and to software from its start where that fails."""
    monkeypatch.setattr(decoders, "missing_elements", lambda names: ["nvh264dec"])
    events: list[Event] = []
    (source,) = expand(f"file://{clip}#decoder=nvdec")
    with closing(open_source(source, events.append)) as frames:
        assert isinstance(frames, StreamFrames)
        assert len(list(frames)) == COUNT
    assert events == []
    gpu.fail = "CreateDecoder"
    gpu.calls.clear()
    with closing(open_source(source, events.append)) as frames:
        assert isinstance(frames, VideoFrames)
        assert len(list(frames)) == COUNT
    assert [e.kind for e in events] == ["fallback"]
    assert events[0].text.startswith(
        f"The video '{clip}' is decoded in software: PyNvVideoCodec says: CreateDecoder returned error 100, and "
    )
    gpu.fail = "Decode"
    with closing(open_source(expand(clip)[0], events.append)) as frames:  # nobody asked
        assert isinstance(frames, VideoFrames)
    assert len(events) == 1
