"""plugins/preprocess/preprocess.h, compiled for the CPU, against OpenCV and the crops that the package makes on the CPU."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from native_tools import ROOT
from numpy.testing import assert_allclose, assert_array_equal
from preprocess_tools import Nv12, bilinear, make, noise, noise_nv12, row, turned

from keyposs_trt import Landmarker
from keyposs_trt.crop import crop_faces
from keyposs_trt.engine.preprocess_library import CropLayout, PixelFormat, crop_rows
from keyposs_trt.errors import BackendError
from keyposs_trt.geometry import square_of_box, transform

SIZE = 40
EXACT = int(cv2.__version__.split(".")[0]) >= 5  # before, warpAffine rounds places to 1/32 of a pixel
MAPS = [
    turned(SIZE, 1.0, 0, 50, 40),
    turned(SIZE, 0.31, 20, 33.3, 61.7),
    turned(SIZE, 1.9, -75, 47, 45),
    turned(SIZE, 1.3, 90, 50.5, 40.5),
    turned(SIZE, 0.8, 180, 3, 2),
    turned(SIZE, 1.1, 33, 99, 79),
    turned(SIZE, 2.5, 10, 50, 40),
    turned(SIZE, 1.0, 0, -21, 40),
    turned(SIZE, 1.0, 45, 500, -500),
]


def levels(planes):
    """[N, S, S, 3] RGB of planes [N, 3, S, S]."""
    return planes.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("border", [0, 114, 255])
@pytest.mark.parametrize("to_region", MAPS, ids=range(len(MAPS)))
def test_bilinear(preprocess_host, to_region, border):
    image = noise(80, 100)
    want = bilinear(image, to_region, SIZE, border)[..., ::-1]
    rows = row(image, to_region)
    assert_allclose(levels(make(preprocess_host, rows, SIZE, CropLayout.FLOAT32, border=border))[0], want, atol=0.02)
    assert np.abs(make(preprocess_host, rows, SIZE, border=border)[0] - want).max() <= 0.52


@pytest.mark.parametrize("to_region", MAPS, ids=range(len(MAPS)))
def test_opencv_warps_alike(preprocess_host, to_region):
    image = noise(80, 100, blur=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    want = cv2.warpAffine(image.astype(np.float32), to_region, (SIZE, SIZE), flags=flags, borderValue=(114, 114, 114))[..., ::-1]
    got = levels(make(preprocess_host, row(image, to_region), SIZE, CropLayout.FLOAT32, border=114))[0]
    assert_allclose(got, want, atol=0.02 if EXACT else 12)


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.9, 2.4, 4.1, 5.6, 7.1, 8.6])
@pytest.mark.parametrize("blur", [0, 1])
def test_the_crops_of_the_cpu(preprocess_host, scale, blur):
    image = noise(431, 517, blur=blur)
    squares = np.array([[260.3, 215.2, 1], [20, 30, 1], [510, 420, 1], [-30, 200, 1], [3000, 3000, 1]]) * (1, 1, scale * SIZE)
    want, matrices = crop_faces(image, squares, SIZE)
    rows, own_matrices = crop_rows(squares, (517, 431), SIZE, image.ctypes.data, image.strides[0], PixelFormat.BGR)
    assert_allclose(own_matrices, matrices, atol=1e-12)
    assert rows["factor"][0] == max(1, round(scale / 1.4))
    difference = np.abs(make(preprocess_host, rows, SIZE).astype(int) - want)
    assert difference.max() <= (1 if EXACT else 12)
    assert difference.mean() < (0.01 if EXACT else 1)


def test_squares_may_be_turned(preprocess_host):
    y, x = np.mgrid[:300, :400]
    waves = np.stack([np.sin(x / 11) * np.cos(y / 13), np.sin((x + y) / 17), np.cos((x - 2 * y) / 23)], -1)
    image = (127 + 120 * waves).astype(np.uint8)
    squares, angles = [[200, 150, 120], [60, 240, 150.5], [390, 10, 70]], [0.4, -2.0, 3.0]
    rows, matrices = crop_rows(squares, (400, 300), SIZE, image.ctypes.data, image.strides[0], PixelFormat.BGR, angles=angles)
    assert rows["factor"].tolist() == [2, 3, 1]
    for crop, matrix in zip(make(preprocess_host, rows, SIZE), matrices, strict=True):
        want = cv2.warpAffine(image, matrix, (SIZE, SIZE))[..., ::-1]
        inside = cv2.erode(cv2.warpAffine(np.full((300, 400), 255, np.uint8), matrix, (SIZE, SIZE)), np.ones((5, 5))) == 255
        assert inside.mean() > 0.2
        assert np.abs(crop[inside].astype(int) - want[inside]).max() < 8  # the waves are hardly lower for the mean of 3 x 3
    assert_allclose(transform(matrices, np.array(squares)[:, None, :2]), (SIZE - 1) / 2, atol=1e-5)
    turn, _ = crop_rows([[200, 150, 120]], (400, 300), SIZE, 1, 1, 0, angles=[0.0])
    plain, _ = crop_rows([[200, 150, 120]], (400, 300), SIZE, 1, 1, 0)
    assert_array_equal(turn, plain)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 6, 7, 11])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 9])
def test_means_of_blocks(preprocess_host, factor, columns):
    """Whole regions seen one to one, at each place in a word that a row may begin at."""
    image = noise(9 * factor + 2, 9 * factor + 5)
    for left in range(4):
        region = (left, 1, columns, 4, factor)
        blocks = image[1 : 1 + 4 * factor, left : left + columns * factor].reshape(4, factor, columns, factor, 3).mean((1, 3))
        got = make(preprocess_host, row(image, np.eye(2, 3), region), 10, border=7)[0, ..., ::-1]
        assert_array_equal(got[:4, :columns], np.floor(blocks + 0.5) if factor == 2 else np.rint(blocks))
        assert (got[4:] == 7).all()
        assert (got[:, columns:] == 7).all()


@pytest.mark.parametrize("factor", range(2, 9))
def test_means_are_those_of_opencv(preprocess_host, factor):
    image = noise(64 * factor, 64 * factor)
    got = make(preprocess_host, row(image, np.eye(2, 3), (0, 0, 64, 64, factor)), 64)[0, ..., ::-1].astype(int)
    want = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.mean(got != want) < 0.002  # halves alone, where 1 / factor^2 is no float
    assert np.abs(got - want).max() <= 1


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("size", [1, 2, 3, 7, 31, 33, 64])
def test_odd_sizes_and_pitched_rows(preprocess_host, size, shift):
    wide = noise(70, 130)
    image = wide[3:, shift : shift + 61]
    to_region = turned(size, 0.9, 15, 30, 30)
    want = bilinear(image, to_region, size, 0)[..., ::-1]
    assert np.abs(make(preprocess_host, row(image, to_region), size, shift=shift)[0] - want).max() <= 0.52


def test_several_frames_in_one_launch(preprocess_host):
    first, second, third = noise(50, 60, seed=1), noise(90, 40, seed=2), noise_nv12(48, 64, seed=3)
    parts = [row(first, MAPS[1]), row(second, MAPS[0]), row(third, MAPS[1], format=PixelFormat.NV12_BT601), row(first, MAPS[2])]
    together = make(preprocess_host, np.concatenate(parts), SIZE)
    for crop, part in zip(together, parts, strict=True):
        assert_array_equal(crop, make(preprocess_host, part, SIZE)[0])


@pytest.mark.parametrize("to_region", [np.eye(2, 3), *MAPS], ids=range(len(MAPS) + 1))
def test_nv12_of_bt601_is_that_of_opencv(preprocess_host, to_region):
    frame = noise_nv12(80, 100)
    bgr = cv2.cvtColor(frame.planar, cv2.COLOR_YUV2BGR_NV12)
    got = make(preprocess_host, row(frame, to_region, format=PixelFormat.NV12_BT601), SIZE, border=9)
    assert np.abs(got[0] - bilinear(bgr, to_region, SIZE, 9)[..., ::-1]).max() <= 1.5


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (4, 3), (5, 7)])
def test_means_of_nv12(preprocess_host, factor, corner):
    """Over the colours, not over luma and chroma; chroma belongs to pixels of the frame, wherever the region begins."""
    frame = noise_nv12(80, 100)
    bgr = cv2.cvtColor(frame.planar, cv2.COLOR_YUV2BGR_NV12)
    left, top = corner
    cut = bgr[top : top + 16 * factor, left : left + 20 * factor]
    want = cut.reshape(16, factor, 20, factor, 3).mean((1, 3))
    got = make(preprocess_host, row(frame, np.eye(2, 3), (left, top, 20, 16, factor), PixelFormat.NV12_BT601), 20)[0, :16, ..., ::-1]
    assert np.abs(got - want).max() <= 1.5


def test_nv12_of_bt709_is_the_formula(preprocess_host):
    frame = noise_nv12(80, 100)
    y = (np.maximum(frame.luma.astype(float), 16) - 16) / 219
    u, v = np.moveaxis((frame.chroma.repeat(2, 0).repeat(2, 1).astype(float) - 128) / 224, -1, 0)
    red, blue = y + 2 * (1 - 0.2126) * v, y + 2 * (1 - 0.0722) * u
    green = (y - 0.2126 * red - 0.0722 * blue) / (1 - 0.2126 - 0.0722)
    want = np.clip(np.stack([red, green, blue], -1), 0, 1) * 255
    got = levels(make(preprocess_host, row(frame, np.eye(2, 3), format=PixelFormat.NV12_BT709), 100, CropLayout.FLOAT32))[0]
    assert_allclose(got[:80], want, atol=0.01)
    assert (got[80:] == 0).all()


def test_chroma_may_lie_anywhere(preprocess_host):
    frame = noise_nv12(48, 64)
    memory = np.zeros((24, 71), np.uint8)
    memory[:, 3:67] = frame.chroma.reshape(24, 64)
    apart = Nv12(frame.luma, np.lib.stride_tricks.as_strided(memory[0, 3:], (24, 32, 2), (71, 2, 1)))
    for to_region in MAPS:
        both = [make(preprocess_host, row(f, to_region, format=PixelFormat.NV12_BT601), SIZE) for f in (frame, apart)]
        assert_array_equal(*both)


def test_crops_are_normalised(preprocess_host):
    image = noise(80, 100)
    mean, scale = (123.7, 116.3, 103.5), (0.0171, 0.0175, 0.0174)
    plain = make(preprocess_host, row(image, MAPS[1]), SIZE, CropLayout.FLOAT32, border=114)
    want = (plain - np.reshape(mean, (3, 1, 1))) * np.reshape(scale, (3, 1, 1))
    got = make(preprocess_host, row(image, MAPS[1]), SIZE, CropLayout.FLOAT32, mean, scale, 114)
    assert_allclose(got, want, atol=1e-5)
    half = make(preprocess_host, row(image, MAPS[1]), SIZE, CropLayout.FLOAT16, mean, scale, 114)
    assert_array_equal(half, got.astype(np.float16))
    only_scale = make(preprocess_host, row(image, MAPS[1]), SIZE, CropLayout.FLOAT32, None, scale, 114)
    assert_allclose(only_scale, plain * np.reshape(scale, (3, 1, 1)), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-9, 3e-7, 1e-5, 1e-3, 1.0, 255.0, 257.1, 1e9])
def test_halves_of_all_sizes_are_rounded_to_nearest(preprocess_host, factor):
    image = noise(SIZE, SIZE)
    scale = (factor, -factor, 0.0)
    exact = make(preprocess_host, row(image, np.eye(2, 3)), SIZE, CropLayout.FLOAT32, None, scale)
    with np.errstate(over="ignore"):
        want = exact.astype(np.float16)
    assert_array_equal(make(preprocess_host, row(image, np.eye(2, 3)), SIZE, CropLayout.FLOAT16, None, scale), want)


@pytest.mark.parametrize(
    "change",
    [
        {"pixels": 0},
        {"columns": 0},
        {"rows": 0},
        {"columns": -5},
        {"factor": 0},
        {"factor": -1},
        {"format": 3},
        {"format": -1},
        {"format": 1},
        {"to_region": np.nan},
        {"to_region": np.inf},
        {"to_region": 1e38},
    ],
)
def test_rows_that_make_no_sense_are_all_border(preprocess_host, change):
    rows = row(noise(80, 100), MAPS[0])
    for name, value in change.items():
        rows[name] = value
    assert (make(preprocess_host, rows, SIZE, border=33) == 33).all()


def test_no_crops(preprocess_host):
    assert make(preprocess_host, row(noise(9, 9), MAPS[0])[:0], SIZE).shape == (0, SIZE, SIZE, 3)
    preprocess_host.launch(0, 0, SIZE, 0, 0, None, None, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"count": -1},
        {"size": 0},
        {"size": -3},
        {"size": 16385},
        {"layout": -1},
        {"layout": 3},
        {"border": -1},
        {"border": 256},
        {"crops_address": 0},
        {"out_address": 0},
        {"layout": CropLayout.FLOAT32, "out_address": 2},
        {"layout": CropLayout.FLOAT16, "out_address": 1},
        {"crops_address": 4},
    ],
)
def test_arguments_that_make_no_sense_are_refused(preprocess_host, change):
    rows, out = row(noise(9, 9), MAPS[0]), np.zeros(SIZE * SIZE * 3 * 4, np.uint8)
    good = {"crops_address": rows.ctypes.data, "count": 1, "size": SIZE, "out_address": out.ctypes.data, "layout": 0, "border": 0}
    addresses = {name: good[name] + value if value else 0 for name, value in change.items() if name.endswith("address")}
    with pytest.raises(BackendError, match=r"cannot be made on the GPU: invalid argument \(CUDA error 1\)"):
        preprocess_host.launch(**{**good, **change, **addresses}, mean=None, scale=None, stream=0)
    assert not out.any()


@pytest.mark.parametrize(
    ("square", "factor"), [([50, 50, 1e9], 64), ([50, 50, 90 * SIZE * 1.5], 64), ([-30, 50, 80], 1), ([1e7, 1e7, 1], 1)]
)
def test_far_and_huge_squares(preprocess_host, square, factor):
    image = np.full((100, 100, 3), 90, np.uint8)
    rows, _ = crop_rows([square], (100, 100), SIZE, image.ctypes.data, image.strides[0], 0)
    assert rows["factor"][0] == factor
    assert rows["left"][0] + rows["columns"][0] * factor <= 100
    assert rows["top"][0] + rows["rows"][0] * factor <= 100
    want, _ = crop_faces(image, [square], SIZE)
    assert np.abs(make(preprocess_host, rows, SIZE).mean() - want.mean()) < 1


def test_slivers_of_large_faces(preprocess_host):
    """Less of the image in the square than a block: sampled as it is, and nothing beside it read."""
    image = noise(200, 200)
    rows, _ = crop_rows([[-1302.0, 100.0, 2600.0]], (200, 200), SIZE, image.ctypes.data, image.strides[0], 0)
    assert 1 <= rows["factor"][0] <= rows["columns"][0] * rows["factor"][0] <= 200
    assert make(preprocess_host, rows, SIZE).shape == (1, SIZE, SIZE, 3)


def test_landmarks_are_those_of_the_crops_of_the_cpu(preprocess_host):
    image = cv2.imread(str(ROOT / "examples/astronaut.jpg"))
    with Landmarker.load("face68-32") as landmarker:
        box = landmarker(image)[0].box
        size = landmarker.spec.input_size
        for grow in (1.0, 0.7, 1.6):
            squares = square_of_box(np.array([box]), landmarker.spec.crop_scale * grow)
            want = landmarker.runner(crop_faces(image, squares, size)[0])
            rows, _ = crop_rows(squares, (image.shape[1], image.shape[0]), size, image.ctypes.data, image.strides[0], PixelFormat.BGR)
            got = landmarker.runner(make(preprocess_host, rows, size))
            assert np.abs(got.landmarks - want.landmarks).max() < 0.05
