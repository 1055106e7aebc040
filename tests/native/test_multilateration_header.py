"""plugins/multilateration/multilateration.h, compiled for the CPU, against the NumPy oracle."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from keyposs_trt.decode import fit, multilateration
from keyposs_trt.decode.multilateration import wls

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not (shutil.which("cmake") and any(map(shutil.which, ("c++", "g++", "clang++")))), reason="there is no CMake or no C++ compiler"
)


def constants() -> dict[str, float]:
    header = (ROOT / "plugins/multilateration/multilateration.h").read_text()
    return {name: float(value) for name, value in re.findall(r"constexpr \w+ k(\w+) = ([\d.e+-]+)f?;", header)}


def test_the_limits_are_those_of_the_oracle():
    oracle = multilateration
    assert constants() == {
        "Huge": oracle.HUGE,
        "Tiny": oracle.TINY,
        "Floor": oracle.FLOOR,
        "FirstRadius": oracle.FIRST_RADIUS,
        "Lowest": oracle.LOWEST,
        "Inlier": oracle.OUTLIER[0],
        "Outlier": oracle.OUTLIER[1],
        "MaxLog": oracle.MAX_LOG,
        "KappaRange": fit.KAPPA_RANGE,
        "MinAnchors": fit.MIN_ANCHORS,
        "MinDeterminant": fit.MIN_DETERMINANT,
        "MinSpread": fit.MIN_SPREAD,
        "MinIndependence": fit.MIN_INDEPENDENCE,
        "MinRoundness": fit.MIN_ROUNDNESS,
        "Round": fit.ROUND,
        "Shrink": fit.SHRINK,
        "MinShape": fit.MIN_SHAPE,
        "Reach": fit.REACH,
        "Unknowns": fit.UNKNOWNS,
        "MinPrior": oracle.PRIOR_RANGE[0],
        "MaxPrior": oracle.PRIOR_RANGE[1],
        "MaxRadius": oracle.MAX_RADIUS,
        "MinSigma": oracle.SIGMA_RANGE[0],
        "MaxSigma": oracle.SIGMA_RANGE[1],
    }


def build(folder: Path, *options: str) -> Path:
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", "-DKEYPOSS_BUILD_HOST=ON", *options],
        ["cmake", "--build", str(folder)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "plugins/multilateration"


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    library = ctypes.CDLL(str(build(tmp_path_factory.mktemp("host")) / "libkeyposs_multilateration.so"))
    array, number = ctypes.c_void_p, ctypes.c_float
    library.keyposs_wls.argtypes = [array, ctypes.c_int64, ctypes.c_int, ctypes.c_int, number, ctypes.c_int, number, *[array] * 3]

    def decode(maps, sigma=2.0, radius=5, prior=0.015):
        maps = np.ascontiguousarray(maps, np.float32)
        count = maps.shape[0]
        out = [np.full((count, *tail), np.nan, np.float32) for tail in ((2,), (), (3,))]
        pointers = [a.ctypes.data for a in out]
        code = library.keyposs_wls(maps.ctypes.data, count, *maps.shape[1:], sigma, radius, prior, *pointers)
        return code, *out

    return decode


def gaussians(size, count=200, sigma=(1.4, 3.2), noise=0.02, seed=0):
    """Blobs of many widths and heights anywhere on the map, its rim included, with noise."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width]
    cx, cy, s, a = (rng.uniform(low, high, (count, 1, 1)) for low, high in ((-0.5, width - 0.5), (-0.5, height - 0.5), sigma, (0.2, 1.2)))
    maps = a * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * s**2))
    return (maps + rng.normal(0, noise, maps.shape)).astype(np.float32)


def assert_agrees(native, maps, share=1.0, **parameters):
    """To a thousandth of a pixel in this share of the maps, to a tenth in all: without a peak the fit magnifies rounding."""
    code, points, scores, covariance = native(maps, **parameters)
    want = wls(maps, **parameters)
    assert code == 0
    assert want.covariance is not None
    size = np.abs(want.covariance).max(-1)
    differences = [
        (np.abs(points - want.points).max(-1), 1e-3),
        (np.abs(scores - want.scores), 2e-4),
        (np.abs(covariance - want.covariance).max(-1) / (size + 1e-2), 5e-3),
    ]
    for difference, tolerance in differences:
        assert np.mean(difference <= tolerance) >= share
        assert difference.max() <= 100 * tolerance


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (16, 24), (8, 8), (4, 4), (2, 3), (1, 7), (7, 1), (1, 1)])
def test_blobs(native, size):
    assert_agrees(native, gaussians(size))


@pytest.mark.parametrize(
    "parameters",
    [
        {"radius": 1},
        {"radius": 2},
        {"radius": 9},
        {"prior": 0.0},
        {"prior": float("inf")},
        {"sigma": 1.0},
        {"sigma": 4.0, "prior": 1.0},
    ],
)
def test_parameters(native, parameters):
    assert_agrees(native, gaussians((32, 32), seed=1), **parameters)


def test_noise_flat_and_negative_maps(native):
    rng = np.random.default_rng(2)
    assert_agrees(native, rng.random((3000, 16, 16)), share=0.99)
    assert_agrees(native, rng.normal(size=(3000, 4, 4)), share=0.98)
    assert_agrees(native, np.stack([np.full((9, 9), v) for v in (0, -1, 0.5, 3, 1e-12, 1e19)]))
    assert_agrees(native, -gaussians((12, 12), noise=0) - 0.1)


def test_values_that_are_no_measurements(native):
    rng = np.random.default_rng(3)
    maps = gaussians((16, 16), seed=3)
    holes = rng.random(maps.shape) < 0.2
    maps[holes] = rng.choice([np.nan, np.inf, -np.inf, 1e20, -1e30, 3e38], holes.sum())
    assert_agrees(native, maps, share=0.99)
    assert_agrees(native, np.full((1, 5, 5), np.nan))
    assert_agrees(native, np.full((1, 5, 5), np.inf))


def test_the_first_of_equal_maxima(native):
    maps = np.zeros((1, 8, 8))
    maps[0, 2, 5] = maps[0, 6, 1] = maps[0, 6, 6] = 1
    _, points, _, _ = native(maps)
    assert points.round().tolist() == [[5, 2]]
    assert_agrees(native, maps)


@pytest.mark.parametrize("parameters", [{"sigma": 0}, {"sigma": float("nan")}, {"radius": 0}, {"radius": 17}, {"prior": -1}])
def test_parameters_that_make_no_sense_are_refused(native, parameters):
    code, points, *_ = native(np.ones((1, 8, 8)), **parameters)
    assert code == 1
    assert np.isnan(points).all()


def test_under_sanitizers(tmp_path):
    program = tmp_path / "probe.cpp"
    program.write_text("int main() { return 0; }")
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    probe = [compiler, "-fsanitize=address,undefined", str(program), "-o", str(tmp_path / "probe")]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this compiler has no AddressSanitizer")
    check = build(tmp_path / "build", "-DKEYPOSS_SANITIZE=ON") / "keyposs_multilateration_check"
    done = subprocess.run([str(check)], capture_output=True, text=True, check=False, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "16200 maps, 0 wrong values\n", "")
