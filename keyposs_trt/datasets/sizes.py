"""Width and height of an image file, from its header where Pillow is installed."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from keyposs_trt.datasets.format import is_regular
from keyposs_trt.errors import InputError
from keyposs_trt.images import decode_image, read_image

if TYPE_CHECKING:
    from pathlib import Path

_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 turn the picture by a quarter, as read_image does


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the picture that ``read_image`` gives.

    With Pillow only the header is read, so that damage further on goes unseen; without, the picture is decoded.

    Raises:
        InputError: the file is missing or not an image.
    """
    if not is_regular(path):
        raise InputError(f"There is no image '{path}'; check the path.")
    size = _from_header(path)
    if size is None:
        height, width = read_image(path).shape[:2]
        return width, height
    return size


def size_of_bytes(data: bytes, name: str) -> tuple[int, int]:
    """Width and height in pixels of the picture that ``decode_image`` makes of these bytes; looks at them as ``image_size`` does.

    Raises:
        InputError: the bytes are no picture; ``name`` is what the sentence calls them.
    """
    size = _from_header(BytesIO(data))
    if size is None:
        height, width = decode_image(data, name).shape[:2]
        return width, height
    return size


def _from_header(file: Path | BytesIO) -> tuple[int, int] | None:
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF blocks and very large pictures
            with Image.open(file) as image:
                width, height = image.size
                turned = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, Image.DecompressionBombError):
        return None  # OpenCV may know it still, and has the better words where not
    return (height, width) if turned else (width, height)
