"""What the process uses, and the memory of GPUs as a made-up management library tells it."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from keyposs_trt.video import usage

LIBRARY = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlInit_v2(void) { return RESULT; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(unsigned long)(index + 0x7f0000000000); return 0; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) { strncpy(name, "NVIDIA Test", length); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    unsigned long index = (unsigned long)device - 0x7f0000000000;
    memory->total = 8ull << 30; memory->used = (1ull << 30) * (index + 1); memory->free = memory->total - memory->used;
    return index == 1 ? 3 : 0;
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_usage_of_this_process() -> None:
    before = usage.process_usage()
    with Path(os.devnull).open():
        after = usage.process_usage()
    assert after["open_files"] == before["open_files"] + 1
    assert after["threads"] >= 1
    assert after["cpu_seconds"] > 0
    json.dumps(after)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_memory_of_this_process_grows_by_what_it_takes() -> None:
    data = os.urandom(32 << 20)
    before = usage.process_usage()["rss_bytes"]
    with mmap.mmap(-1, len(data)) as ballast:  # pages of its own: an allocator would give again what other tests have freed
        ballast.write(data)
        grown = usage.process_usage()["rss_bytes"] - before
    assert 16 << 20 < grown < 64 << 20


@pytest.fixture
def library(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler for the made-up library")
    code, name = tmp_path / "nvml.c", tmp_path / "libnvml.so"
    code.write_text(LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", f"-DRESULT={request.param}", "-o", str(name), str(code)], check=True)
    return str(name)


@pytest.mark.parametrize("library", [0], indirect=True)
def test_memory_of_each_gpu_that_tells(library: str) -> None:
    gpu = {"name": "NVIDIA Test", "total_bytes": 8 << 30}
    assert usage.GpuMemory(library)() == [gpu | {"used_bytes": 1 << 30}, gpu | {"used_bytes": 3 << 30}]


@pytest.mark.parametrize("library", [9], indirect=True)
def test_a_library_that_does_not_start(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_BOARD", Path("/nonexistent"))
    assert usage.GpuMemory(library)() is None


def test_no_library_and_a_jetson_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_BOARD", tmp_path / "compatible")
    monkeypatch.setattr(usage, "_MEMORY", tmp_path / "meminfo")
    memory = usage.GpuMemory("no-such-library.so")
    assert memory() is None
    (tmp_path / "meminfo").write_text("MemTotal:  8000 kB\nMemFree: 100 kB\nMemAvailable:  6000 kB\nHugePages_Total: 0\n")
    assert memory() is None
    (tmp_path / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")
    assert memory() == [{"name": "Jetson, memory of the machine", "used_bytes": 2000 * 1024, "total_bytes": 8000 * 1024}]
