"""Which program decodes a source: FFmpeg inside OpenCV, or GStreamer or PyNvVideoCodec with the hardware of the machine."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.video.contract import Event
from keyposs_trt.video.feeds import BrokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyposs_trt.video.contract import Report

_COMPATIBLE = Path("/proc/device-tree/compatible")
_NEEDED = ("gdppay", "videoconvert", "decodebin")
_ELEMENTS = {"nvv4l2": ("nvv4l2decoder", "nvvidconv"), "nvdec": ("nvh264dec",)}
_INSTALL = "install gstreamer1.0-tools, gstreamer1.0-plugins-base, -good and -bad"


@dataclass(frozen=True)
class Choice:
    """How to read a source.

    Attributes:
        gstreamer: through GStreamer; else FFmpeg.
        decoder: software, nvdec or nvv4l2.
    """

    gstreamer: bool
    decoder: str = "software"


class NotInstalledError(BrokenError):
    """PyNvVideoCodec, which is an extra, is not installed."""


def wants_nvdec(options: Mapping[str, str]) -> bool:
    """Whether these options of a file ask for the decoder of a desktop GPU, which PyNvVideoCodec drives where it can."""
    return options.get("decoder") == "nvdec" and "backend" not in options


def choose(name: str, options: Mapping[str, str], report: Report, failure: BrokenError | None = None) -> Choice:
    """What the options ask for, as far as this machine has it; what is replaced is reported.

    Args:
        name: what the sentences call the source.
        options: its ``backend`` and ``decoder``; "auto" takes the decoder of a Jetson, and no hardware elsewhere.
        report: takes the event.
        failure: why PyNvVideoCodec, which came first, does not decode it. Where GStreamer does so by the same hardware, that
            PyNvVideoCodec is not installed is not worth a word.
    """
    decoder, backend = options.get("decoder", "auto"), options.get("backend")
    wanted = "nvv4l2" if decoder == "auto" and backend != "ffmpeg" and on_jetson() else decoder
    if wanted in _ELEMENTS and backend != "ffmpeg":
        missing = missing_elements((*_NEEDED, *_ELEMENTS[wanted]))
        if not missing:
            if failure is not None and not isinstance(failure, NotInstalledError):
                report(Event("fallback", f"{name} is decoded by GStreamer: {failure}; {failure.remedy}."))
            return Choice(True, wanted)
        lacking = f"GStreamer here has no {missing[0]}"
        reason, remedy = (lacking, _remedy(missing)) if failure is None else (f"{failure}, and {lacking}", failure.remedy)
        report(Event("fallback", f"{name} is decoded in software: {reason}; {remedy}."))
    elif wanted in _ELEMENTS:
        report(Event("fallback", f"{name} is decoded in software: FFmpeg inside OpenCV cannot use {wanted}; leave backend=ffmpeg out."))
    if backend != "gstreamer":
        return Choice(False)
    if missing := missing_elements(_NEEDED):
        report(Event("fallback", f"{name} is read by FFmpeg: GStreamer here has no {missing[0]}; {_INSTALL}."))
        return Choice(False)
    return Choice(True)


def on_jetson() -> bool:
    """Whether this is an NVIDIA Jetson, also from inside a container."""
    try:
        return b"nvidia,tegra" in _COMPATIBLE.read_bytes()
    except OSError:
        return False


def missing_elements(names: tuple[str, ...]) -> list[str]:
    """Those GStreamer elements that are not installed; ``gst-launch-1.0`` counts as the first."""
    inspect = shutil.which("gst-inspect-1.0")
    if inspect is None or shutil.which("gst-launch-1.0") is None:
        return ["gst-launch-1.0", *names]
    return [name for name in names if not _exists(inspect, name)]


@cache  # a process for each element of each source would make many cameras slow to start
def _exists(inspect: str, name: str) -> bool:
    return subprocess.run([inspect, "--exists", name], capture_output=True, check=False).returncode == 0


def _remedy(missing: list[str]) -> str:
    if set(missing) & {*_NEEDED, "gst-launch-1.0"}:
        return _INSTALL
    return "on a Jetson install nvidia-l4t-gstreamer, else the plugin nvcodec"
