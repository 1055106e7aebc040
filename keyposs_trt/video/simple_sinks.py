"""Sinks that keep nothing open: a picture file, and nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyposs_trt.images import write_image

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import FrameResult


class ImageSink:
    """Writes the drawn picture of an image, whole or not at all.

    Args:
        path: the file; its suffix, one of ``images.WRITABLE_SUFFIXES``, chooses the format.

    Attributes:
        written: the name of the file, once it is there.
    """

    draws = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = ""

    def __enter__(self) -> ImageSink:
        return self

    def write(self, result: FrameResult, drawn: NDArray[np.uint8] | None) -> None:  # noqa: ARG002 (the picture is all it needs)
        """Writes the file."""
        assert drawn is not None
        write_image(self.path, drawn)
        self.written = str(self.path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class NullSink:
    """Draws and writes nothing: for measuring, and for counting.

    Attributes:
        frames: frames taken.
        faces: faces in them.
        errors: frames that could not be worked on.
    """

    draws = False

    def __init__(self) -> None:
        self.frames = self.faces = self.errors = 0

    def __enter__(self) -> NullSink:
        return self

    def write(self, result: FrameResult, drawn: NDArray[np.uint8] | None) -> None:  # noqa: ARG002 (nothing is drawn for it)
        """Counts."""
        self.frames += 1
        self.faces += len(result.faces)
        self.errors += result.error is not None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass
