"""Pictures without end, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from bench_tools import ASTRONAUT, FakeClock

from keyposs_trt.bench import pictures as module
from keyposs_trt.bench.pictures import open_pictures
from keyposs_trt.bench.stopwatch import Stopwatch
from keyposs_trt.errors import InputError, UsageError


def video(path, frames=3):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 60 * i + 20, np.uint8))
    writer.release()
    return str(path)


def test_the_sample_is_read_again_for_every_pass():
    pictures = open_pictures()
    assert (pictures.kind, pictures.name, pictures.stage) == ("image", "astronaut.jpg", "read image")
    watch = Stopwatch(FakeClock())
    first, second = pictures.next(watch), pictures.next(watch)
    assert first.shape == (512, 512, 3)
    assert first is not second
    assert watch.seconds == {"read": 2}


def test_a_video_begins_again_and_opening_it_is_not_in_the_time(tmp_path, monkeypatch):
    clock = FakeClock()
    real = module.open_source

    def opened(source):
        clock.spend(1000)
        return real(source)

    monkeypatch.setattr(module, "open_source", opened)
    pictures = open_pictures(video(tmp_path / "a.avi"))
    assert (pictures.kind, pictures.stage) == ("video", "decode video")
    watch = Stopwatch(clock)
    shades = [int(pictures.next(watch).mean()) for _ in range(7)]
    pictures.close()
    assert shades == pytest.approx([20, 80, 140, 20, 80, 140, 20], abs=4)
    assert watch.seconds == {"read": 7}


def test_outside_a_checkout_a_source_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", tmp_path / "nothing.jpg")
    with pytest.raises(UsageError, match="with --source"):
        open_pictures()


def test_a_pattern_of_one_file(tmp_path):
    (tmp_path / "one.jpg").write_bytes(ASTRONAUT.read_bytes())
    assert open_pictures(str(tmp_path / "*.jpg")).name == "one.jpg"


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("0", UsageError, "camera"),
        ("/dev/null", UsageError, "camera"),
        ("rtsp://host/stream", UsageError, "cannot be timed"),
        (".", UsageError, "stands for 2 files; name one"),
        ("*.jpg", UsageError, "stands for 2 files; name one"),
        ("empty", InputError, "no image or video in folder"),
        ("missing.jpg", InputError, "no file 'missing.jpg'"),
        ("missing.mp4", InputError, "no file 'missing.mp4'"),
    ],
)
def test_refused(source, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(ASTRONAUT.read_bytes())
    with pytest.raises(error, match=words) as caught:
        open_pictures(source)
    assert str(caught.value).endswith(".")
