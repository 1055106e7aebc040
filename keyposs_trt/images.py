"""Image files: any picture in, BGR uint8 out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from keyposs_trt.errors import InputError, OutputError
from keyposs_trt.files import atomic_path, read_bytes
from keyposs_trt.quiet import quiet_stderr

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".jp2", ".avif", ".pbm", ".pgm", ".ppm", ".pnm")
)
WRITABLE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff"))


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Reads a picture of any kind OpenCV knows.

    EXIF rotation is applied, grey and palette pictures become colour, 16-bit values are scaled to 8 bits, CMYK is
    converted, transparency is dropped (the colour under it shows), and of a multi-page or animated file the first
    picture is taken. A file that breaks off is refused, even where OpenCV would fill the rest with grey.

    Returns:
        [H, W, 3] uint8, BGR.

    Raises:
        InputError: the file is missing, empty, cut off, damaged, too large or not a picture.
    """
    return decode_image(read_bytes(path, "image"), path)


def decode_image(data: bytes, name: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The picture of an image file's bytes, as ``read_image`` gives it: [H, W, 3] uint8 BGR.

    Raises:
        InputError: the bytes are cut off, damaged, too large or no picture; ``name`` is what the sentence calls them.
    """
    import cv2
    import numpy as np

    if data.startswith(b"\xff\xd8") and not _jpeg_has_end(data):
        raise InputError(f"The image '{name}' is cut off: its JPEG data have no end; copy or download it again.")
    try:
        with quiet_stderr():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as e:
        raise InputError(f"The image '{name}' cannot be decoded; it is too large or of a rare kind: scale it down or convert it.") from e
    if image is None or image.size == 0:
        raise InputError(
            f"'{name}' is damaged, cut off or not an image OpenCV can read; copy it again, or convert it to 8-bit JPEG or PNG."
        )
    return cast("NDArray[np.uint8]", image)


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Writes a picture whole or not at all; the suffix chooses the format.

    Raises:
        OutputError: the suffix is not one of ``WRITABLE_SUFFIXES``, or the file cannot be written.
    """
    import cv2

    suffix = Path(path).suffix.lower()
    if suffix not in WRITABLE_SUFFIXES:
        raise OutputError(f"Cannot write '{path}': pictures are written as {', '.join(sorted(WRITABLE_SUFFIXES))}; choose one of these.")
    try:
        ok, data = cv2.imencode(suffix, image)
    except cv2.error:
        ok, data = False, None
    if not ok or data is None:
        height, width = image.shape[:2]
        raise OutputError(f"Cannot write '{path}': {width}x{height} pixels do not fit the format '{suffix}'; choose .png.")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end-of-image marker follows the first scan (a thumbnail in the header has its own)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        if data[at + 1] == 0xDA:  # start of scan: in the coded data 0xFF is always followed by 0x00 or a marker
            return data.find(b"\xff\xd9", at) >= 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
