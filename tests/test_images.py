"""Pictures of every kind come out as the same colours; damaged ones are refused."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from keyposs_trt.errors import InputError, OutputError
from keyposs_trt.images import WRITABLE_SUFFIXES, read_image, write_image

if TYPE_CHECKING:
    from pathlib import Path

# Four flat quarters, so that colours and orientation are seen at once: red, green / blue, grey (RGB).
QUARTERS = np.array([[[200, 40, 40], [40, 160, 40]], [[40, 40, 180], [128, 128, 128]]], np.uint8)


def picture() -> Image.Image:
    return Image.fromarray(QUARTERS.repeat(24, 0).repeat(32, 1))  # 64 x 48


def quarters(bgr: np.ndarray) -> np.ndarray:
    """[2, 2, 3] RGB: the colours in the middle of the quarters."""
    h, w = bgr.shape[:2]
    return bgr[[[h // 4], [3 * h // 4]], [[w // 4, 3 * w // 4]], ::-1].astype(int)


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [
        ("rgb.png", "RGB", 0),
        ("rgb.jpg", "RGB", 4),
        ("rgb.bmp", "RGB", 0),
        ("rgb.tif", "RGB", 0),
        ("rgb.webp", "RGB", 6),
        ("palette.png", "P", 8),
        ("rgba.png", "RGBA", 0),
        ("cmyk.jpg", "CMYK", 4),
        ("cmyk.tif", "CMYK", 4),
    ],
)
def test_colours(tmp_path: Path, name: str, mode: str, tolerance: int) -> None:
    source = picture().quantize(8) if mode == "P" else picture().convert(mode)
    image = read_image(saved(tmp_path, source, name))
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint8
    assert np.abs(quarters(image) - QUARTERS).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    image = read_image(saved(tmp_path, picture().convert(mode), "grey.png"))
    assert image.shape == (48, 64, 3)
    assert (image == image[..., :1]).all()
    assert image.std() > 5


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str) -> None:
    wide = np.array(picture())[..., ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / f"wide{suffix}"), wide)
    assert (quarters(read_image(tmp_path / f"wide{suffix}")) == QUARTERS).all()


def test_transparency_shows_the_colour_under_it(tmp_path: Path) -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    assert (quarters(read_image(saved(tmp_path, image, "clear.png"))) == QUARTERS).all()


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_rotation_is_applied(tmp_path: Path, name: str, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    image = read_image(saved(tmp_path, picture(), name, exif=exif))
    assert np.abs(quarters(image) - np.rot90(QUARTERS, turns)).max() <= 4


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path, picture().resize((1, 1)), "dot.png")).shape == (1, 1, 3)


def noise_jpeg(thumbnail: bool = False) -> bytes:
    """A JPEG of many bytes; with a thumbnail it holds an end marker near its start."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
    exif = b""
    if thumbnail:
        small = io.BytesIO()
        noise.resize((16, 16)).save(small, "JPEG")
        exif = b"Exif\0\0" + small.getvalue()
    out = io.BytesIO()
    noise.save(out, "JPEG", exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("thumbnail", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_jpeg_is_refused(tmp_path: Path, thumbnail: bool, share: float) -> None:
    data = noise_jpeg(thumbnail)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data)
    read_image(path)  # whole, it is fine
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="have no end"):
        read_image(path)


def test_progressive_jpeg_and_bytes_after_the_end_are_fine(tmp_path: Path) -> None:
    path = saved(tmp_path, picture(), "p.jpg", progressive=True)
    path.write_bytes(path.read_bytes() + b"motion photo data")
    assert np.abs(quarters(read_image(path)) - QUARTERS).max() <= 4


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zero_size_png() -> bytes:
    """A PNG header of 0 x 0 pixels."""
    import struct
    import zlib

    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.bmp"])
def test_cut_files_of_other_kinds_are_refused_silently(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
    path = saved(tmp_path, noise, name)
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(InputError, match=r"'.*a\.\w+'"):
        read_image(path)
    assert capfd.readouterr().err == ""


def test_zero_size_huge_foreign_empty_missing_and_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(zero_size_png())
    with pytest.raises(InputError, match="not an image"):
        read_image(path)
    path.write_bytes(b"P5\n2000000000 2000000000\n255\n")
    with pytest.raises(InputError, match=r"too large|not an image"):
        read_image(path)
    path.write_text("a letter, not a picture")
    with pytest.raises(InputError, match="not an image"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_image(path)
    with pytest.raises(InputError, match="There is no image"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="folder"):
        read_image(tmp_path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", sorted(WRITABLE_SUFFIXES))
def test_written_pictures_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"out{suffix.upper()}"
    write_image(path, np.ascontiguousarray(np.array(picture())[..., ::-1]))
    assert np.abs(quarters(read_image(path)) - QUARTERS).max() <= 6
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_pictures_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OutputError, match="choose one of these"):
        write_image(tmp_path / "a.gif", image)
    with pytest.raises(OutputError, match="do not fit"):
        write_image(tmp_path / "a.webp", np.zeros((2, 20000, 3), np.uint8))
    with pytest.raises(OutputError, match="Cannot write"):
        write_image("/proc/none/a.png", image)
    assert list(tmp_path.iterdir()) == []
