"""Pictures and videos for the tests of the command line, and a way to call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from keyposs_trt.quiet import quiet_opencv

if TYPE_CHECKING:
    from numpy.typing import NDArray

# FFmpeg asks for its log level once in a process; other tests may open a video before the command line does.
quiet_opencv()

ROOT = Path(__file__).resolve().parents[2]
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
FACE = (160, 40, 300, 210)  # x1 y1 x2 y2 about the face in it, hair and chin included
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


def astronaut() -> NDArray[np.uint8]:
    """[512, 512, 3] BGR, one face."""
    return cv2.imread(str(ASTRONAUT))  # type: ignore[return-value]


def write_video(path: Path, frames: int, fps: float = 25.0, size: int = 160) -> Path:
    """The face of the photograph, moving over a grey ground; ``size`` pixels square."""
    x1, y1, x2, y2 = FACE
    face = cv2.resize(astronaut()[y1:y2, x1:x2], (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), fps, (size, size))
    assert writer.isOpened()
    for i in range(frames):
        picture = np.full((size, size, 3), 90, np.uint8)
        x, y = size // 4 + round(size / 6 * np.sin(i / 9)), size // 4 + round(size / 8 * np.cos(i / 7))
        picture[y : y + size // 2, x : x + size // 2] = face
        writer.write(picture)
    writer.release()
    return path


def frames_of(path: Path) -> int:
    """How many frames of a video play."""
    capture, n = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        n += 1
    capture.release()
    return n


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """The command line in a process of its own, with pipes for its output."""
    command = [sys.executable, "-m", "keyposs_trt.cli.main", *map(str, arguments)]
    settings: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    return subprocess.Popen(command, **{**settings, **options})  # type: ignore[call-overload]


def leftovers(folder: Path) -> list[str]:
    """Files with hidden, that is temporary, names."""
    return sorted(p.name for p in folder.rglob(".*"))
