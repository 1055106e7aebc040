"""Where pictures come from: images, folders, globs, video files and cameras."""

from __future__ import annotations

import glob
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.files import file_mode, is_utf8
from keyposs_trt.images import IMAGE_SUFFIXES, read_image
from keyposs_trt.video.contract import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyposs_trt.video.contract import Frames

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".y4m")
)


class ImageFrames:
    """An image as a source of one frame."""

    count, fps, live = 1, 1.0, False

    def __init__(self, path: str) -> None:
        self._image = read_image(path)

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(self._image, 0, 0.0)

    def close(self) -> None:
        """Nothing to close."""


def open_source(source: Source) -> Frames:
    """Opens a source.

    Raises:
        InputError: it is missing, empty, damaged, or not what it is taken for.
    """
    if source.kind == "image":
        return ImageFrames(source.name)
    from keyposs_trt.video.capture import CameraFrames, VideoFrames

    return CameraFrames(source.name) if source.kind == "camera" else VideoFrames(source.name)


def expand(argument: str) -> list[Source]:
    """What one SOURCE of the command line stands for.

    Digits or a device file are a camera; a folder gives the images and videos in it, sorted by name, without hidden files and subfolders;
    a pattern with ``*``, ``?`` or ``[...]`` gives the images and videos that match (``**`` descends into folders); any
    other path is one file.

    Raises:
        InputError: there is nothing of that name, or no image or video in it.
        UsageError: an address of a kind that is not supported.
    """
    path, mode = Path(argument), file_mode(argument)
    if argument.isdecimal() or stat.S_ISCHR(mode):
        return [Source("camera", argument)]
    if "://" in argument:
        raise UsageError(
            f"Streams such as '{argument}' are not supported; give an image, a folder, a pattern, a video file or a camera number."
        )
    if stat.S_ISDIR(mode):
        # Hidden files are no pictures of the user's: notes of a file manager, and our own results while they are written.
        paths = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        found = [Source(k, str(p)) for p in paths if (k := _kind_by_suffix(p)) and p.is_file()]
        if not found:
            raise InputError(
                f"There is no image or video in folder '{argument}'; for its subfolders give the pattern '{path / '**' / '*'}'."
            )
        return found
    if not mode and glob.has_magic(argument):
        paths = sorted(Path(p) for p in glob.glob(argument, recursive=True))  # noqa: PTH207 (pathlib knows no absolute patterns)
        found = [Source(k, str(p)) for p in paths if (k := _kind_by_suffix(p)) and p.is_file()]
        if not found:
            raise InputError(f"No image or video matches '{argument}'; check the pattern, and quote it.")
        return found
    return [Source(_kind_by_suffix(path) or _kind_by_content(path), argument)]


def _kind_by_suffix(path: Path) -> Literal["image", "video"] | None:
    suffix = path.suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def _kind_by_content(path: Path) -> Literal["image", "video"]:
    """A file of unknown suffix is an image if OpenCV knows its first bytes, else it is tried as a video."""
    import cv2

    if not stat.S_ISREG(file_mode(path)) or not path.stat().st_size or not is_utf8(path):
        return "image"
    return "image" if cv2.haveImageReader(str(path)) else "video"
