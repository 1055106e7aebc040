"""One source through a made-up landmarker into the sinks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import InputError
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.contract import Frame, Source
from keyposs_trt.video.jsonl import JsonLines
from keyposs_trt.video.pipeline import Summary, process, whole_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clip:
    """Frames with given times; breaks off with a sentence if asked to."""

    def __init__(self, times: list[float], *, fps: float = 10.0, live: bool = False, broken: bool = False) -> None:
        self.times, self.count, self.fps, self.live, self.broken = times, len(times), fps, live, broken

    def __iter__(self) -> Iterator[Frame]:
        for i, t in enumerate(self.times):
            yield Frame(np.full((48, 64, 3), 10 * i, np.uint8), i, t)
        if self.broken:
            raise InputError("It breaks off.")

    def close(self) -> None: ...


def find(image: np.ndarray) -> list[Landmarks]:
    """A face in every second frame, two in the frame of value 40."""
    value = int(image[0, 0, 0])
    one = Landmarks(np.zeros((2, 2), np.float32), np.ones(2, np.float32), np.zeros((2, 3), np.float32), np.zeros(4, np.float32), 0.5, "x")
    return [one] * (2 if value == 40 else value // 10 % 2)


def draw(image: np.ndarray, faces: object) -> np.ndarray:
    return image + 5


def test_video_to_everything(tmp_path: Path) -> None:
    summary = Summary(Source("video", "clip.mkv"), tmp_path / "out.mp4")
    ticks: list[int] = []
    clip = Clip([i / 10 for i in range(6)])
    with JsonLines(str(tmp_path / "out.jsonl")) as records:
        process(clip, find, summary, scheme="300w", draw=draw, records=records, tick=lambda: ticks.append(1))
    assert (summary.frames, summary.with_faces, summary.most, summary.seconds) == (6, 4, 2, 0.5)
    assert str(summary) == f"clip.mkv: 6 frames, 0.5 s, 2 faces at once in 4 -> {tmp_path / 'out.mp4'}"
    assert len(ticks) == 6
    records_read = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(r["source"], r["frame"], r["time"], len(r["faces"])) for r in records_read] == [
        ("clip.mkv", 0, 0.0, 0), ("clip.mkv", 1, 0.1, 1), ("clip.mkv", 2, 0.2, 0), ("clip.mkv", 3, 0.3, 1), ("clip.mkv", 4, 0.4, 2),
        ("clip.mkv", 5, 0.5, 1),
    ]  # fmt: skip
    assert values(tmp_path / "out.mp4") == pytest.approx([5, 15, 25, 35, 45, 55], abs=4)


def values(path: Path) -> list[float]:
    capture, means = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        means.append(got[1].mean())
    return means


def test_a_clip_that_breaks_off_leaves_what_was_read(tmp_path: Path) -> None:
    summary = Summary(Source("video", "clip.mkv"), tmp_path / "out.mp4")
    with pytest.raises(InputError, match="breaks off"):
        process(Clip([0, 0.1, 0.2], broken=True), find, summary, scheme="300w", draw=draw)
    assert summary.frames == 3
    assert len(values(tmp_path / "out.mp4")) == 3


def test_a_live_source_is_written_in_real_time(tmp_path: Path) -> None:
    # 10 frames a second on the clock; we manage irregularly: a gap is filled, a frame too many is left out.
    summary = Summary(Source("camera", "0"), tmp_path / "out.mp4")
    process(Clip([0, 0.01, 0.1, 0.4, 0.5], live=True), find, summary, scheme="300w", draw=draw)
    assert values(tmp_path / "out.mp4") == pytest.approx([5, 25, 35, 35, 35, 45], abs=4)
    assert summary.frames == 5


def test_image(tmp_path: Path) -> None:
    summary = Summary(Source("image", "a.jpg"), tmp_path / "out.png")
    process(Clip([0]), find, summary, scheme="300w", draw=draw)
    assert (cv2.imread(str(tmp_path / "out.png")) == 5).all()
    assert str(summary) == f"a.jpg: no face -> {tmp_path / 'out.png'}"


def test_nothing_is_drawn_without_an_output() -> None:
    summary = Summary(Source("video", "a.mp4"))
    process(Clip([0, 0.1]), find, summary, scheme="300w", draw=lambda *_: pytest.fail("drawn for nobody"))
    assert str(summary) == "a.mp4: 2 frames, 0.1 s, 1 face in 1"


@pytest.mark.parametrize(
    ("kind", "frames", "with_faces", "most", "text"),
    [
        ("image", 1, 0, 0, "x: no face"),
        ("image", 1, 1, 1, "x: 1 face"),
        ("image", 1, 1, 3, "x: 3 faces"),
        ("video", 1, 0, 0, "x: 1 frame, 2.0 s, no face"),
        ("video", 9, 7, 1, "x: 9 frames, 2.0 s, 1 face in 7"),
        ("camera", 9, 7, 2, "x: 9 frames, 2.0 s, 2 faces at once in 7"),
    ],
)
def test_summary_in_words(kind: str, frames: int, with_faces: int, most: int, text: str) -> None:
    assert str(Summary(Source(kind, "x"), None, frames, with_faces, most, 2.0)) == text  # type: ignore[arg-type]


def test_whole_image() -> None:
    assert whole_image(np.zeros((20, 30, 3), np.uint8)).tolist() == [[-0.5, -0.5, 29.5, 19.5]]
