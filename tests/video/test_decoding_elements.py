"""What is asked of GStreamer to choose a decoder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from keyposs_trt.video import decoders

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_each_element_is_looked_for_once_for_all_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, script in (("gst-launch-1.0", ""), ("gst-inspect-1.0", 'echo "$2" >> "$LOG"\ntest "$2" != nvh264dec\n')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    decoders._exists.cache_clear()
    for _ in range(3):
        assert decoders.choose("x", {"backend": "gstreamer", "decoder": "nvdec"}, lambda _: None) == decoders.Choice(True)
    asked = (tmp_path / "log").read_text().split()
    assert sorted(asked) == sorted({*decoders._NEEDED, "nvh264dec"})
    monkeypatch.setenv("PATH", "/none")
    assert decoders.missing_elements(("decodebin",)) == ["gst-launch-1.0", "decodebin"]
