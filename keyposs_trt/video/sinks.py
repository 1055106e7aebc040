"""Where annotated pictures go: names that cannot clash, and a video file that is whole or kept as far as it got."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import TYPE_CHECKING, cast

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.files import file_mode, is_utf8, replaced_by, temporary_beside
from keyposs_trt.images import IMAGE_SUFFIXES, WRITABLE_SUFFIXES
from keyposs_trt.video.capture import DEFAULT_FPS
from keyposs_trt.video.sources import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import cv2
    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import Source

CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}

_MOST_TICKS = 65535  # a second


def plan_outputs(sources: Sequence[Source], out: str) -> list[Path]:
    """A file to write for each source.

    One source may name its file; otherwise ``out`` is a folder, which is made. Names are those of the sources, as far as their
    format can be written (else .png or .mp4); a second ``face.jpg`` becomes ``face-2.jpg``.

    Raises:
        UsageError: ``out`` is a file where a folder is needed, has a suffix that cannot be written, or an input would be overwritten.
        OutputError: the folder cannot be made, or a folder, FIFO or device has the name of a file.
    """
    target, mode = Path(out), file_mode(out)
    suffix = target.suffix.lower()
    is_file_name = suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not stat.S_ISDIR(mode) and not out.endswith("/")
    if is_file_name and len(sources) > 1:
        raise UsageError(f"'{out}' names one file, but there are {len(sources)} sources; give a folder.")
    if stat.S_ISREG(mode) and not is_file_name:
        raise UsageError(f"'{out}' is a file of no known picture or video format; give a folder, or a name such as out.jpg or out.mp4.")
    if is_file_name:
        wanted = sorted(WRITABLE_SUFFIXES if sources[0].kind == "image" else CODECS)
        if suffix not in wanted:
            raise UsageError(
                f"Cannot write '{out}' from the {sources[0].kind} '{sources[0].name}'; the name may end in {', '.join(wanted)}."
            )
        plan = [target]
    else:
        plan = _names_in(target, sources)
    inputs = {_identity(Path(s.name)): s.name for s in sources if s.kind != "camera"}
    for path in plan:
        if (name := inputs.get(_identity(path))) is not None:
            raise UsageError(f"The result would overwrite the source '{name}'; give another file or folder to -o.")
    _make_folder(plan[0].parent)
    for path in plan:
        replaced_by(path)
    return plan


def _names_in(folder: Path, sources: Sequence[Source]) -> list[Path]:
    taken: set[str] = set()
    plan = []
    for source in sources:
        name = Path(source.name)
        if source.kind == "camera":
            stem, suffix = f"camera{name.name}", ".mp4"
        elif source.kind == "video":
            stem, suffix = name.stem, name.suffix if name.suffix.lower() in CODECS else ".mp4"
        else:
            stem, suffix = name.stem, name.suffix if name.suffix.lower() in WRITABLE_SUFFIXES else ".png"
        free, n = stem + suffix, 1
        while free.lower() in taken:  # case does not tell names apart on every file system
            n += 1
            free = f"{stem}-{n}{suffix}"
        taken.add(free.lower())
        plan.append(folder / free)
    return plan


def _identity(path: Path) -> object:
    """Equal for two names of one file."""
    try:
        stat = path.stat()
    except OSError:
        return path.resolve()
    return stat.st_dev, stat.st_ino


def _make_folder(folder: Path) -> None:
    """Fails now rather than after the work: makes the folder and writes a byte in it."""
    probe = temporary_beside(folder / "probe")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"0")
    except OSError as e:
        raise OutputError(f"Cannot write to folder '{folder}': {e.strerror or e}; choose a folder you may write to, with room left.") from e
    finally:
        if stat.S_ISDIR(file_mode(folder)):
            probe.unlink(missing_ok=True)


def writable_fps(fps: float) -> float:
    """The frame rate a file can hold.

    MPEG-4 counts time in at most 65535 ticks a second, and OpenCV makes the ticks from the decimals of the rate: of 90.123
    frames a second it would make 90123 ticks, and fail.
    """
    if not (math.isfinite(fps) and 0.01 <= fps <= 1000):
        return DEFAULT_FPS
    return next(r for d in (3, 2, 1, 0) if (r := round(float(fps), d)) * 10**d <= _MOST_TICKS)


class VideoSink:
    """Writes a video; a context manager.

    The file is written aside and takes its name at the end. When the body raises, it is finished with the frames
    written so far, and plays; no file is left if there are none.

    Args:
        path: the file; its suffix, one of ``CODECS``, chooses container and codec. Sound is not carried over.
        fps: frames a second; rounded a little where the codec cannot tell it exactly, and ``DEFAULT_FPS`` where it makes no sense.

    Raises:
        OutputError: the file cannot be written, or a folder, FIFO or device is there.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = writable_fps(fps)
        self.frames = 0
        if not is_utf8(path):
            raise OutputError(f"Cannot write video '{path}': OpenCV writes to names in UTF-8 only; give another name.")
        self._final = replaced_by(path)
        self._temporary = temporary_beside(self._final.parent / path.name)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> VideoSink:
        return self

    def write(self, image: NDArray[np.uint8]) -> None:
        """Appends a frame, [H, W, 3] uint8 BGR; the first one sets the size, later ones are scaled to it."""
        import cv2

        if self._writer is None:
            height, width = image.shape[:2]
            self._size = (width, height)
            codec = CODECS[self.path.suffix.lower()]
            self._writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*codec), self.fps, self._size)
            if not self._writer.isOpened():
                raise OutputError(
                    f"Cannot write video '{self.path}' of {width}x{height} pixels; check the folder, or choose a name that ends in .avi."
                )
        if image.shape[1::-1] != self._size:
            image = cast("NDArray[np.uint8]", cv2.resize(image, self._size))
        self._writer.write(image)
        self.frames += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is None:
            return
        try:
            self._writer.release()
            if self.frames:
                self._check()
                self._temporary.replace(self._final)
        except OSError as e:
            raise OutputError(f"Cannot write '{self.path}': {e.strerror or e}; choose a folder you may write to.") from e
        finally:
            self._temporary.unlink(missing_ok=True)

    def _check(self) -> None:
        """OpenCV does not tell of failed writes, so the file must open and hold every frame."""
        import cv2

        capture = cv2.VideoCapture(str(self._temporary))
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if frames < self.frames - 1:
            raise OutputError(f"Video '{self.path}' could not be written whole; check that there is room left on the disk.")
