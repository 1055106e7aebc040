"""Where pictures come from: images, folders, globs, video files, cameras and streams."""

from __future__ import annotations

import glob
import re
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.files import file_mode, is_utf8
from keyposs_trt.images import IMAGE_SUFFIXES, read_image
from keyposs_trt.video.addresses import is_address, parse_address
from keyposs_trt.video.contract import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyposs_trt.video.contract import Frames, Report

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".y4m")
)
_OPTIONS = re.compile(r"[?#](\w+=[^/]*)$")


class ImageFrames:
    """An image as a source of one frame."""

    count, fps, live = 1, 1.0, False

    def __init__(self, path: str) -> None:
        self._image = read_image(path)
        self._read_at = time.monotonic()

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(self._image, 0, 0.0, self._read_at)

    def close(self) -> None:
        """Nothing to close."""


def open_source(source: Source, report: Report = lambda _: None) -> Frames:
    """Opens a source.

    Args:
        source: what ``expand`` gave.
        report: takes what happens to a source that goes on, in the thread that opens or iterates.

    Raises:
        InputError: it is missing, empty, damaged, or not what it is taken for.
    """
    if source.kind == "image":
        _check_there(source.name)
        return ImageFrames(source.name)
    if source.kind == "test":
        from keyposs_trt.video.test_pattern import PatternFrames

        return PatternFrames(dict(source.options))
    from keyposs_trt.video.opening import open_stream, open_video

    return open_video(source, report) if source.kind == "video" else open_stream(source, report)


def expand(argument: str) -> list[Source]:
    """What one SOURCE of the command line stands for.

    An address is what docs/sources.md says; digits or a device file are a camera; a folder gives the images and videos in it, sorted
    by name, without hidden files and subfolders; a pattern with ``*``, ``?`` or ``[...]`` gives the images and videos that match
    (``**`` descends into folders); any other path is one file.

    Raises:
        InputError: there is nothing of that name, or no image or video in it.
        UsageError: it is empty, an address of an unknown kind, or has an option that it does not take.
    """
    if not argument:
        raise UsageError("An empty name is no source; give a file, a folder, a camera or an address.")
    path, mode = Path(argument), file_mode(argument)
    if argument.isdecimal() or stat.S_ISCHR(mode):
        return [Source("camera", argument)]
    if is_address(argument):
        source = parse_address(argument)
        return [replace(s, options=source.options) for s in expand(source.name)] if source.kind == "video" else [source]
    if not mode:
        _check_no_options(argument)
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


def _check_there(path: str) -> None:
    """Of a missing path whose name does not tell, nobody knows what it was to be."""
    if _kind_by_suffix(Path(path)) is None:
        try:
            Path(path).stat()
        except FileNotFoundError:
            raise InputError(f"There is no file or folder '{path}'; check the path.") from None
        except OSError:  # reading it will say why
            return


def _check_no_options(argument: str) -> None:
    """Refuses options behind the name of a file, which only addresses take."""
    match = _OPTIONS.search(argument)
    path = argument[: match.start()] if match else ""
    if match and (path.isdecimal() or file_mode(path)):
        address = f"camera:{path}" if path.isdecimal() else Path(path).absolute().as_uri()
        if stat.S_ISCHR(file_mode(path)):
            address = address.replace("file:", "camera:", 1)
        raise UsageError(f"A plain path or number takes no options; write '{address}#{match[1]}'.")


def _kind_by_suffix(path: Path) -> Literal["image", "video"] | None:
    suffix = path.suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def _kind_by_content(path: Path) -> Literal["image", "video"]:
    """A file of unknown suffix is an image if OpenCV knows its first bytes, else it is tried as a video."""
    import cv2

    if not stat.S_ISREG(file_mode(path)) or not path.stat().st_size or not is_utf8(path):
        return "image"
    return "image" if cv2.haveImageReader(str(path)) else "video"
