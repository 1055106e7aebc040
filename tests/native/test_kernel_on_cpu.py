"""The CUDA kernel itself, run on the CPU by cuda_on_cpu.h, against the NumPy oracle.

Lanes are fibres there, so shuffles, masks, barriers, shared memory, loads and launches are the kernel's own; the maps lie against a page
that may not be touched. What it cannot show is the arithmetic and the speed of a GPU.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from native_tools import PLUGIN, run
from numpy.testing import assert_allclose, assert_array_equal

from keyposs_trt.decode.multilateration import wls

MANY, FEW = 1, 10**6  # multiprocessors: with one of them any number of maps counts as many
SIZES = [(64, 64), (32, 32), (16, 24), (8, 8), (4, 4), (7, 9), (13, 3), (33, 65), (96, 128), (1, 7), (7, 1), (2, 2), (1, 1)]
INVALID = 1  # cudaErrorInvalidValue


@pytest.fixture(scope="module")
def kernel(tmp_path_factory, cxx, cuda_include):
    library = tmp_path_factory.mktemp("kernel") / "libkernel.so"
    source = PLUGIN.parents[1] / "tests/native/kernel_on_cpu.cpp"
    # -Bsymbolic: where PyTorch has loaded the real CUDA runtime, ours must still call its own stand-ins.
    command = [
        cxx,
        "-std=c++17",
        "-O2",
        "-shared",
        "-fPIC",
        "-Wl,-Bsymbolic",
        "-Wno-unknown-pragmas",
        "-I",
        PLUGIN,
        "-isystem",
        cuda_include,
        source,
    ]
    built = run([*command, "-o", library])
    assert (built.returncode, built.stderr) == (0, "")
    call = ctypes.CDLL(str(library)).kernel_on_cpu
    pointer, number, whole = ctypes.c_void_p, ctypes.c_float, ctypes.c_int
    call.argtypes = [pointer, ctypes.c_int64, *[whole] * 3, number, whole, *[number] * 3, whole, whole, *[pointer] * 4]

    def decode(maps, multiprocessors=FEW, order=0, sigma=2.0, radius=5, prior=0.015, stride=1.0, shift=0.0):
        """Code, threads of a block, points, scores, covariance; NaN stands where nothing was written."""
        count, height, width = maps.shape
        out = [np.full(count * size + 2, np.nan, np.float32) for size in (2, 1, 3)]
        threads = ctypes.c_int()
        half = maps.dtype == np.float16
        values = (sigma, radius, prior, stride, shift, multiprocessors, order)
        pointers = [a.ctypes.data + 4 for a in out]
        code = call(maps.ctypes.data if maps.size else None, count, height, width, half, *values, *pointers, ctypes.byref(threads))
        for array in out:
            assert np.isnan(array[[0, -1]]).all(), "written beside the outputs"
        points, scores, covariance = (array[1:-1] for array in out)
        return code, threads.value, points.reshape(count, 2), scores, covariance.reshape(count, 3)

    return decode


def blobs(size, count, dtype, seed=0):
    """Gaussians of many widths and heights anywhere on the map, its rim included, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    ends = ((-0.5, size[1] - 0.5), (-0.5, size[0] - 0.5), (1.4, 3.2), (0.2, 1.2))
    cx, cy, s, a = (rng.uniform(low, high, (count, 1, 1)) for low, high in ends)
    return (a * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * s**2)) + rng.normal(0, 0.02, (count, *size))).astype(dtype)


def assert_agrees(kernel, maps, threads=None, **options):
    code, used, points, scores, covariance = kernel(maps, **options)
    want = wls(maps.astype(np.float32), **{name: options[name] for name in ("sigma", "radius", "prior") if name in options})
    assert code == 0
    assert want.covariance is not None
    assert threads in (None, used)
    assert_allclose(points, want.points, atol=1e-3)
    assert_allclose(scores, want.scores, atol=1e-4)
    assert_allclose(covariance, want.covariance, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", SIZES)
def test_blobs(kernel, size, dtype):
    """Each way to share out the work, with the maps against both ends of their memory and the threads in both orders."""
    maps = blobs(size, 35, dtype)
    large = maps[0].nbytes > 4096
    for order in (0, 1):
        assert_agrees(kernel, maps, threads=128, multiprocessors=MANY, order=order)
        assert_agrees(kernel, maps[:12], threads=256 if large else 32, multiprocessors=FEW, order=order)


@pytest.mark.parametrize(("size", "count", "threads"), [((64, 64), 3, 256), ((64, 64), 4, 32), ((64, 64), 31, 32), ((128, 129), 4, 256)])
def test_large_maps_get_a_block_where_few_or_huge(kernel, size, count, threads):
    assert_agrees(kernel, blobs(size, count, np.float32), threads=threads, multiprocessors=1)


@pytest.mark.parametrize(
    "parameters", [{"radius": 1}, {"radius": 8}, {"radius": 16}, {"prior": float("inf")}, {"sigma": 4.0, "prior": 0.0}]
)
def test_parameters(kernel, parameters):
    for multiprocessors in (MANY, FEW):
        assert_agrees(kernel, blobs((20, 24), 35, np.float32, seed=1), multiprocessors=multiprocessors, **parameters)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", [(16, 16), (7, 9), (72, 64)])
def test_values_that_are_no_measurements(kernel, size, dtype):
    rng = np.random.default_rng(3)
    maps = blobs(size, 35, dtype, seed=3)
    holes = rng.random(maps.shape) < 0.2
    bad = np.array([np.nan, np.inf, -np.inf, 1e20, -1e30, 3e38])
    with np.errstate(over="ignore"):
        maps[holes] = rng.choice(bad, holes.sum()).astype(dtype)
    for i, value in enumerate((np.nan, np.inf, -np.inf, 0, 0.5, -1)):
        maps[i] = value
    maps[6], maps[7] = -np.inf, np.nan
    maps[6, -1, -1] = maps[7, 0, -1] = 0.5  # one measurement alone
    for multiprocessors in (MANY, FEW):
        assert_agrees(kernel, maps, multiprocessors=multiprocessors)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", [(64, 64), (32, 32), (7, 9), (4, 4), (3, 1)])
def test_the_first_of_equal_maxima(kernel, size, dtype):
    """Whoever reads them: neighbours of one load, lanes of one warp, warps of one block."""
    blob = blobs(size, 35, dtype, seed=4).reshape(35, -1)
    maps = np.maximum(blob, blob[:, ::-1]).reshape(-1, *size)
    for multiprocessors in (MANY, FEW):
        assert_agrees(kernel, maps, multiprocessors=multiprocessors)


def test_the_order_of_the_threads_changes_no_bit(kernel):
    maps = blobs((24, 20), 35, np.float16, seed=5)
    for multiprocessors in (MANY, FEW):
        for one, other in zip(kernel(maps, multiprocessors, 0)[2:], kernel(maps, multiprocessors, 1)[2:], strict=True):
            assert_array_equal(one, other)


def test_results_are_in_crop_pixels(kernel):
    maps = blobs((16, 16), 8, np.float32, seed=6)
    _, _, points, scores, covariance = kernel(maps)
    _, _, moved, same, scaled = kernel(maps, stride=4.0, shift=1.5)
    assert_allclose(moved, points * 4 + 1.5, rtol=1e-6, atol=1e-5)
    assert_array_equal(same, scores)
    assert_allclose(scaled, covariance * 16, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 33])
def test_any_number_of_maps(kernel, count):
    maps = blobs((9, 10), count, np.float32)
    for multiprocessors in (0, FEW):  # with 0 multiprocessors one map counts as many
        code, threads, *_ = kernel(maps, multiprocessors)
        assert (code, threads) == (0, 0 if count == 0 else 128 if multiprocessors == 0 else 32)
        if count:
            assert_agrees(kernel, maps, multiprocessors=multiprocessors)


@pytest.mark.parametrize(
    "options",
    [{"sigma": 0.0}, {"sigma": float("nan")}, {"radius": 0}, {"radius": 17}, {"prior": -1.0}, {"stride": 0.0}, {"stride": float("nan")}],
)
def test_what_makes_no_sense_is_refused(kernel, options):
    code, threads, points, *_ = kernel(np.ones((2, 8, 8), np.float32), **options)
    assert (code, threads) == (INVALID, 0)
    assert np.isnan(points).all()


def test_maps_without_pixels_are_refused(kernel):
    for shape in ((2, 0, 8), (2, 8, 0)):
        assert kernel(np.zeros(shape, np.float32))[:2] == (INVALID, 0)
