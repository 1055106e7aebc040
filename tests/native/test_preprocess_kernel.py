"""The crop kernel: on the CPU by cuda_on_cpu.h against the same maths pixel by pixel, under sanitizers, and compiled for all GPUs."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil

import numpy as np
import pytest
from native_tools import PLUGIN, ROOT, gpu_architecture, run
from numpy.testing import assert_array_equal
from preprocess_tools import make, noise, noise_nv12, row, turned

from keyposs_trt.engine.preprocess_library import CROP_DTYPE, CropLayout, PreprocessLibrary
from keyposs_trt.errors import BackendError

SOURCE = PLUGIN.with_name("preprocess")
TESTS = ROOT / "tests/native"
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ARM, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


def compile_with(compiler, *arguments):
    done = run([compiler, *arguments])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory, cxx, cuda_include) -> PreprocessLibrary:
    """The kernel on the CPU, behind the interface of the library."""
    library = tmp_path_factory.mktemp("kernel") / "libkernel.so"
    # -Bsymbolic: where PyTorch has loaded the real CUDA runtime, ours must still call its own stand-ins.
    flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-Wno-unknown-pragmas", "-isystem", cuda_include]
    compile_with(cxx, *flags, TESTS / "preprocess_on_cpu.cpp", "-o", library)
    return PreprocessLibrary(library)


@pytest.fixture(scope="module")
def rows():
    """Amid the image and at its rim, turned, means of blocks, both kinds of frames; the frames live as long as the rows."""
    images = [noise(80, 101, seed=1), noise(75, 90, seed=2)[:, 1:], noise_nv12(80, 100, seed=3)]
    maps = [turned(44, 1.0, 0, 50, 40), turned(44, 0.7, 25, 45, 37), turned(44, 1.6, -60, 20, 70), turned(44, 0.2, 90, 3, 3)]
    regions = [None, (5, 3, 70, 60, 1), (3, 2, 30, 25, 2), (0, 0, 14, 12, 6)]
    every = [
        row(image, to_region, region, format=i - 1 if i > 1 else 0)
        for i, image in enumerate(images)
        for to_region, region in zip(maps, regions, strict=True)
    ]
    return np.concatenate(every), images


def launches(kernel, backwards=False):
    return ctypes.CDLL(str(kernel.path)).keyposs_preprocess_order(int(backwards))


@pytest.mark.parametrize(
    ("size", "layout", "shift"), [(44, 0, 0), (44, 0, 1), (43, 0, 0), (44, 1, 0), (43, 1, 0), (44, 2, 0), (44, 2, 2), (43, 2, 0)]
)
def test_the_bits_of_the_cpu_in_any_order_of_the_threads(kernel, preprocess_host, rows, size, layout, shift):
    mean, scale = ((120, 110, 100), (0.02, 0.03, 0.04)) if layout else (None, None)
    want = make(preprocess_host, rows[0], size, layout, mean, scale, 114, shift)
    for backwards in (False, True):
        before = launches(kernel, backwards)
        got = make(kernel, rows[0], size, layout, mean, scale, 114, shift)
        assert launches(kernel) == before + 1
        assert_array_equal(got.view(np.uint8), want.view(np.uint8))


def test_no_crops_are_no_launch(kernel, rows):
    before = launches(kernel)
    kernel.launch(0, 0, 44, 0, CropLayout.FLOAT16, None, None, 0, 0)
    assert launches(kernel) == before


def test_what_makes_no_sense_is_refused(kernel, rows):
    before = launches(kernel)
    with pytest.raises(BackendError):
        kernel.launch(rows[0].ctypes.data, 1, 44, 0, CropLayout.UINT8, None, None, 0, 0)
    assert launches(kernel) == before


def test_frames_of_just_their_size_under_sanitizers(tmp_path, cxx, cuda_include):
    """Words that reach beyond a frame, values beside the output, loads and stores off alignment."""
    (tmp_path / "probe.cpp").write_text("int main() { return 0; }")
    if run([cxx, *SANITIZERS, tmp_path / "probe.cpp", "-o", tmp_path / "probe"]).returncode:
        pytest.skip("this compiler has no AddressSanitizer")
    flags = ["-std=c++17", "-O1", "-g", *SANITIZERS, "-Wno-unknown-pragmas", "-isystem", cuda_include, "-I", SOURCE]
    compile_with(cxx, *flags, TESTS / "preprocess_check.cpp", "-o", tmp_path / "check")
    done = run(["env", "ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0", tmp_path / "check"])
    assert (done.returncode, done.stdout) == (0, "1000 crops, 0 wrong launches\n"), done.stderr


def test_rows_are_those_of_the_header(tmp_path, cxx):
    sizes = "".join(f'std::printf("%zu ", offsetof(KeypossCrop, {name}));' for name in CROP_DTYPE.names)
    program = tmp_path / "offsets.cpp"
    program.write_text(
        '#include <cstddef>\n#include <cstdio>\n#include "keyposs_preprocess.h"\n'
        f'int main() {{ {sizes} std::printf("%zu", sizeof(KeypossCrop)); }}\n'
    )
    compile_with(cxx, *STRICT, "-I", SOURCE, program, "-o", tmp_path / "offsets")
    offsets = [CROP_DTYPE.fields[name][1] for name in CROP_DTYPE.names]
    assert run([tmp_path / "offsets"]).stdout.split() == [str(n) for n in (*offsets, CROP_DTYPE.itemsize)]


def test_the_header_is_also_one_of_c(tmp_path, cxx):
    program = tmp_path / "use.c"
    program.write_text('#include "keyposs_preprocess.h"\nKeypossCrop crop;\n')
    compile_with(
        cxx, "-x", "c", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", SOURCE, "-c", program, "-o", tmp_path / "use.o"
    )


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")
def test_compiles_for_every_gpu_without_a_warning(tmp_path):
    warnings = ["--Werror", "all-warnings", "-Xcompiler", ",".join(STRICT[1:])]
    known = run(["nvcc", "--list-gpu-arch"]).stdout.split()
    architectures = [arch for arch in (75, 87, 90, 110, 120) if f"compute_{arch}" in known]
    assert 87 in architectures  # older and newer ones come and go with the compiler
    codes = [option for arch in architectures for option in ("-gencode", f"arch=compute_{arch},code=sm_{arch}")]
    done = run(
        ["nvcc", "-std=c++17", "-O3", *warnings, *codes, "--threads", "2", "-c", SOURCE / "preprocess_kernel.cu", "-o", tmp_path / "k.o"]
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_library_shows_its_two_functions_alone(plugin):
    library = plugin.folder.with_name("preprocess") / "libkeyposs_preprocess.so"
    listed = run(["nm", "-D", "--defined-only", library]).stdout.splitlines()
    assert [line.split()[-1] for line in listed] == ["keyposs_preprocess", "keyposs_preprocess_error"]
    needed = run(["nm", "-D", "--undefined-only", library]).stdout
    assert "free" in needed  # nm did list something
    assert re.findall(r".*cuda.*", needed, re.IGNORECASE) == []


@pytest.mark.skipif(gpu_architecture() is not None, reason="there is an NVIDIA GPU")
def test_the_library_says_what_cuda_says(plugin, rows):
    library = PreprocessLibrary(plugin.folder.with_name("preprocess") / "libkeyposs_preprocess.so")
    with pytest.raises(BackendError, match=r"invalid argument \(CUDA error 1\)"):
        library.launch(0, 1, 44, 0, 0, None, None, 0, 0)
    with pytest.raises(BackendError, match=r"(driver|device).* \(CUDA error \d+\)"):
        make(library, rows[0], 44)


def test_harness(plugin):
    """Everything where there is a GPU; little where there is none."""
    folder = plugin.folder.with_name("preprocess")
    done = run([folder / "keyposs_preprocess_harness", folder / "libkeyposs_preprocess.so"])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert ("the kernel was not run" in done.stdout) == (gpu_architecture() is None)
    assert run([folder / "keyposs_preprocess_harness", plugin.library]).returncode == 1  # another library


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine is aarch64: the other tests are for it")
@pytest.mark.skipif(shutil.which(ARM) is None, reason=f"there is no {ARM}: apt-get install g++-aarch64-linux-gnu")
def test_aarch64(tmp_path, cxx, cuda_include):
    """What of it is C++ compiles, and crops there are those here: each bit, as every product is an fma."""
    compile_with(ARM, *STRICT, "-isystem", cuda_include, "-fPIC", "-c", SOURCE / "preprocess_library.cpp", "-o", tmp_path / "library.o")
    for compiler, name in ((cxx, "here"), (ARM, "there")):
        compile_with(compiler, *STRICT, "-O1", "-I", SOURCE, TESTS / "preprocess_sums.cpp", "-o", tmp_path / name)
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"there is no {EMULATOR}: apt-get install qemu-user")
    here, there = run([tmp_path / "here"]), run([EMULATOR, "-L", "/usr/aarch64-linux-gnu", tmp_path / "there"])
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert len(here.stdout.splitlines()) == 30
    assert there.stdout == here.stdout


def test_the_example_in_the_documentation_compiles(tmp_path, cxx, cuda_include):
    program = tmp_path / "example.cpp"
    program.write_text((ROOT / "docs/preprocess.md").read_text().split("```cpp\n")[1].split("```")[0])
    compile_with(cxx, *STRICT[:3], "-Werror", "-isystem", cuda_include, "-I", SOURCE, "-c", program, "-o", tmp_path / "example.o")
