"""The library that makes crops on the GPU: files that are not it, and the rows that it reads."""

from __future__ import annotations

import _ctypes
from pathlib import Path

import numpy as np
import pytest
from library_tools import library
from numpy.testing import assert_allclose, assert_array_equal

from keyposs_trt.crop import region_of_square
from keyposs_trt.engine.preprocess_library import CROP_DTYPE, PixelFormat, PreprocessLibrary, crop_rows
from keyposs_trt.errors import BackendError
from keyposs_trt.geometry import crop_matrix, transform


def test_a_file_that_is_no_library(tmp_path):
    with pytest.raises(BackendError, match=r"x\.so' does not load as the preprocessing library .*; build it again here"):
        PreprocessLibrary(library(tmp_path / "x.so"))


def test_another_library():
    with pytest.raises(BackendError, match="does not load as the preprocessing library"):
        PreprocessLibrary(Path(_ctypes.__file__))


def test_rows_of_a_frame():
    rows, matrices = crop_rows([[100, 80, 64], [300.5, 40, 500]], (640, 480), 128, 4096, 640, PixelFormat.NV12_BT709, 8192, 704)
    assert rows.dtype == CROP_DTYPE
    assert CROP_DTYPE.itemsize == 72
    for name, value in {"pixels": 4096, "chroma": 8192, "pitch": 640, "chroma_pitch": 704, "format": 2}.items():
        assert rows[name].tolist() == [value, value]
    assert rows["factor"].tolist() == [1, 3]
    assert rows[["left", "top", "columns", "rows"]].tolist() == [(66, 46, 69, 69), (44, 0, 171, 99)]
    assert_allclose(matrices[0], crop_matrix([100, 80, 64], 128))


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.2])
@pytest.mark.parametrize("side", [50.0, 333.3, 900.0])
def test_rows_lead_from_the_crop_through_the_region_to_the_image(angle, side):
    rows, matrices = crop_rows([[400.25, 300.5, side]], (800, 600), 96, 1, 2400, PixelFormat.BGR, angles=[angle])
    row = rows[0]
    corners = np.array([[0, 0], [95, 0], [10.5, 95], [47.5, 47.5]])
    region = transform(row["to_region"].reshape(2, 3), corners)
    image = (row["left"], row["top"]) + region * row["factor"] + (row["factor"] - 1) / 2
    assert_allclose(transform(matrices[0], image), corners, atol=1e-2)
    assert (row["left"] + row["columns"] * row["factor"] >= 0) & (row["left"] + row["columns"] * row["factor"] <= 800)
    if side < 400:  # all of the square lies in the image, so all corners in the region
        assert (region >= 0).all()
        assert (region <= (row["columns"] - 1, row["rows"] - 1)).all()


def test_regions_are_those_of_the_crops_of_the_cpu():
    for square in ([50, 60, 30], [3, 3, 300], [500, 500, 20], [-900, 20, 60]):
        row = crop_rows([square], (120, 110), 32, 1, 360, PixelFormat.BGR)[0][0]
        region = region_of_square(np.array(square), 32, 120, 110)
        factor = max(1, min(region.factor, region.right - region.left, region.bottom - region.top))
        assert (row["left"], row["top"], row["factor"]) == (region.left, region.top, factor)
        assert (row["columns"], row["rows"]) == ((region.right - region.left) // factor, (region.bottom - region.top) // factor)


def test_no_squares():
    rows, matrices = crop_rows(np.zeros((0, 3)), (640, 480), 128, 1, 1920, PixelFormat.BGR, angles=[])
    assert rows.shape == (0,)
    assert matrices.shape == (0, 2, 3)


def test_no_more_pixels_than_a_thread_can_add_up():
    rows, _ = crop_rows([[2000, 1000, 1e6]], (7680, 4320), 128, 1, 3 * 7680, PixelFormat.BGR)
    assert rows["factor"].tolist() == [64]
    assert_array_equal([rows["columns"][0], rows["rows"][0]], [7680 // 64, 4320 // 64])
