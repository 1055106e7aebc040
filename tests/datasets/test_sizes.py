from __future__ import annotations

import sys

import pytest
from dataset_files import jpeg, picture

from keyposs_trt.datasets.sizes import image_size, size_of_bytes
from keyposs_trt.errors import InputError
from keyposs_trt.images import read_image


@pytest.mark.parametrize("pillow", [True, False])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_width_and_height(tmp_path, monkeypatch, pillow, suffix):
    if not pillow:
        monkeypatch.setitem(sys.modules, "PIL", None)
    assert image_size(picture(tmp_path / f"a{suffix}", 70, 40)) == (70, 40)
    (tmp_path / f"b{suffix}").write_text("no picture")
    with pytest.raises(InputError, match="damaged"):
        image_size(tmp_path / f"b{suffix}")
    with pytest.raises(InputError, match="There is no image"):
        image_size(tmp_path / f"c{suffix}")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_is_that_of_the_picture_as_it_is_read(tmp_path, orientation):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (70, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert image_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[1::-1]


def test_the_pixels_are_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("keyposs_trt.datasets.sizes.read_image", None)
    assert image_size(picture(tmp_path / "a.jpg")) == (120, 100)


@pytest.mark.parametrize("pillow", [True, False])
def test_bytes(monkeypatch, pillow):
    if not pillow:
        monkeypatch.setitem(sys.modules, "PIL", None)
    assert size_of_bytes(jpeg(70, 40).tobytes(), "a") == (70, 40)
    with pytest.raises(InputError, match="'the third' is damaged"):
        size_of_bytes(b"no picture", "the third")
