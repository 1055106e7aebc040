"""The test pattern as a source."""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import InputError
from keyposs_trt.video.sources import expand, open_source

if TYPE_CHECKING:
    from pathlib import Path


def test_as_fast_as_it_is_read() -> None:
    frames = open_source(*expand("test://?width=160&height=120&fps=10&frames=30&live=0&faces=2"))
    assert (frames.count, frames.fps, frames.live) == (30, 10, False)
    seen = list(frames)
    assert [f.index for f in seen] == list(range(30))
    assert [f.time for f in seen] == pytest.approx([i / 10 for i in range(30)])
    assert {f.image.shape for f in seen} == {(120, 160, 3)}
    assert (seen[0].image != seen[1].image).any()
    again = list(open_source(*expand("test://?width=160&height=120&fps=10&frames=30&live=0&faces=2")))
    assert all((a.image == b.image).all() for a, b in zip(seen, again, strict=True))


def test_in_real_time() -> None:
    frames = open_source(*expand("test://?width=64&height=48&fps=50"))
    assert (frames.count, frames.live) == (None, True)
    begin = time.monotonic()
    seen = list(islice(frames, 6))
    assert time.monotonic() - begin >= 0.1
    assert all(f.captured - begin >= f.time for f in seen)
    time.sleep(0.2)
    late = next(iter(frames))
    frames.close()
    assert late.index == 0  # another iteration
    frames = open_source(*expand("test://?width=64&height=48&fps=50"))
    running = iter(frames)
    next(running)
    time.sleep(0.2)
    late = next(running)
    assert (late.index, late.time >= 0.18) == (1, True)  # what nobody waited for is left out, as a camera does
    frames.close()
    assert list(running) == []


def test_it_moves_a_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a b.png"), np.full((30, 30, 3), (255, 0, 255), np.uint8))
    frames = open_source(*expand(f"test://?width=200&height=100&frames=3&live=0&image={tmp_path}/a%20b.png"))
    for frame in frames:
        pink = (frame.image == (255, 0, 255)).all(axis=2)
        assert 70**2 <= pink.sum() <= 80**2 + 1
    with pytest.raises(InputError, match="There is no image"):
        open_source(*expand("test://?image=/none.png"))


def test_close_ends_the_wait() -> None:
    frames = open_source(*expand("test://?width=64&height=48&fps=0.01"))
    thread = threading.Thread(target=lambda: list(frames))
    thread.start()
    frames.close()
    thread.join(20)
    assert not thread.is_alive()
