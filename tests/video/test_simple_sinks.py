"""Pictures are written, and nothing is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import pytest
from sink_tools import picture, result_of

from keyposs_trt.errors import OutputError
from keyposs_trt.video.simple_sinks import ImageSink, NullSink

if TYPE_CHECKING:
    from pathlib import Path


def test_image(tmp_path: Path) -> None:
    with ImageSink(tmp_path / "a.png") as sink:
        assert sink.draws
        assert sink.written == ""
        sink.write(result_of(0), picture(7))
    assert sink.written == str(tmp_path / "a.png")
    assert (cv2.imread(str(tmp_path / "a.png")) == 7).all()
    with pytest.raises(OutputError), ImageSink(tmp_path / "no.txt") as sink:
        sink.write(result_of(0), picture(7))
    assert sink.written == ""


def test_nothing() -> None:
    with NullSink() as sink:
        assert not sink.draws
        for faces in (0, 2, 1):
            sink.write(result_of(0, faces=faces), None)
        sink.write(replace(result_of(0), error="It failed."), None)
    assert (sink.frames, sink.faces, sink.errors) == (4, 3, 1)
