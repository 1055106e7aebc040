"""The pictures a benchmark looks at: an image read again and again, or a video played in a circle."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keyposs_trt.bench.subject import READ
from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.files import file_mode
from keyposs_trt.images import read_image
from keyposs_trt.video.sources import expand, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.bench.stopwatch import Stopwatch
    from keyposs_trt.video.contract import Frame, Frames, Source

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "astronaut.jpg"  # in a checkout; not in an installed package


class Pictures(Protocol):
    """A source without end.

    Attributes:
        kind: ``image`` or ``video``.
        name: of the file, without its folder.
        stage: what getting the next picture is called in a report.
    """

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def stage(self) -> str: ...
    def next(self, watch: Stopwatch) -> NDArray[np.uint8]:
        """The next picture, [H, W, 3] uint8 BGR; the time it takes becomes a lap ``READ``."""
        ...

    def close(self) -> None: ...


class Image:
    """One image file, which is read and decoded for every pass."""

    kind, stage = "image", "read image"

    def __init__(self, path: str) -> None:
        self.name = Path(path).name
        self._path = path

    def next(self, watch: Stopwatch) -> NDArray[np.uint8]:
        """The picture, read again."""
        watch.skip()
        image = read_image(self._path)
        watch.lap(READ)
        return image

    def close(self) -> None:
        """Nothing to close."""


class Video:
    """A video file: one frame a pass, and from the beginning again after the last."""

    kind, stage = "video", "decode video"

    def __init__(self, source: Source) -> None:
        self.name = Path(source.name).name
        self._source = source
        self._frames: Frames | None = None
        self._ahead: Iterator[Frame] = iter(())

    def next(self, watch: Stopwatch) -> NDArray[np.uint8]:
        """The next frame. Opening the file is not in the time: it happens once in a video, not once in a frame.

        Raises:
            InputError: the video cannot be read, or breaks off.
        """
        watch.skip()
        frame = next(self._ahead, None)
        if frame is None:
            self.close()
            self._frames = open_source(self._source)
            self._ahead = iter(self._frames)
            watch.skip()
            frame = next(self._ahead)  # a video without a frame raises InputError
        watch.lap(READ)
        return frame.image

    def close(self) -> None:
        """Releases the file."""
        if self._frames is not None:
            self._frames.close()
        self._frames, self._ahead = None, iter(())


def open_pictures(path: str | None = None) -> Image | Video:
    """The pictures of an image or video file; None for the sample photograph.

    Raises:
        UsageError: it is something else, or there is no sample photograph here.
        InputError: there is no such file.
    """
    if path is None:
        if not SAMPLE.is_file():
            raise UsageError(
                "The sample photograph comes with a checkout of keyposs-trt, not with an installed package; "
                "name a photograph or a video of a face with --source."
            )
        return Image(str(SAMPLE))
    if path.isdecimal() or stat.S_ISCHR(file_mode(path)):
        raise UsageError(f"A camera ('{path}') cannot be timed, as it waits for its next frame; give an image or a video file.")
    sources = expand(path)
    if len(sources) > 1 or stat.S_ISDIR(file_mode(path)):
        raise UsageError(f"'{path}' stands for {len(sources)} files; name one image or video file.")
    (source,) = sources
    if source.kind not in ("image", "video"):
        raise UsageError(f"A stream ('{source.name}') cannot be timed, as it waits for its next frame; give an image or a video file.")
    if not stat.S_ISREG(file_mode(source.name)):
        raise InputError(f"There is no file '{path}'; name an image or a video file.")
    return Image(source.name) if source.kind == "image" else Video(source)
