"""What this process uses of the machine: memory, open files, threads, processor time, and the memory of the GPUs."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

_STAT = Path("/proc/self/stat")
_FILES = Path("/proc/self/fd")
_MEMORY = Path("/proc/meminfo")
_BOARD = Path("/proc/device-tree/compatible")
_THREADS, _PAGES = 17, 21  # num_threads and rss in /proc/self/stat, counted behind the name of the program
_NAME_BYTES = 96


def process_usage() -> dict[str, Any]:
    """Bytes in memory, open files, threads and seconds of processor time of this process; None where the system does not tell."""
    fields: list[str] = []
    files = None
    if sys.platform == "linux":
        fields = _STAT.read_text(errors="replace").rpartition(")")[2].split()
        files = sum(1 for _ in _FILES.iterdir()) - 1  # the one the listing itself opens
    return {
        "rss_bytes": int(fields[_PAGES]) * os.sysconf("SC_PAGE_SIZE") if fields else None,
        "open_files": files,
        "threads": int(fields[_THREADS]) if fields else threading.active_count(),
        "cpu_seconds": round(time.process_time(), 3),
    }


class _Memory(ctypes.Structure):
    """nvmlMemory_t: bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class GpuMemory:
    """Memory of the GPUs, asked of NVIDIA's management library through ctypes: no package is needed and no CUDA context is made.

    The library is loaded once. On a Jetson, where GPU and CPU share it, the memory is that of the machine.

    Args:
        library: file of the management library; that of the driver by default.
    """

    def __init__(self, library: str | None = None) -> None:
        try:
            self._nvml = ctypes.CDLL(library or ("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"))
        except OSError:
            self._nvml = None
        if self._nvml is not None and self._nvml.nvmlInit_v2():
            self._nvml = None

    def __call__(self) -> list[dict[str, Any]] | None:
        """``name``, ``used_bytes`` and ``total_bytes`` of each GPU, whoever uses them; None where they cannot be had."""
        found = self._ask() or _shared(_text(_BOARD), _text(_MEMORY))
        return found or None

    def _ask(self) -> list[dict[str, Any]]:
        nvml, count, found = self._nvml, ctypes.c_uint(), []
        if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
        for index in range(count.value):
            device, memory, name = ctypes.c_void_p(), _Memory(), ctypes.create_string_buffer(_NAME_BYTES)
            if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
                continue
            if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):  # a Jetson's is refused
                continue
            nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(_NAME_BYTES))
            text = name.value.decode(errors="replace")
            found.append({"name": text, "used_bytes": memory.used, "total_bytes": memory.total})
        return found


def _shared(board: str, meminfo: str) -> list[dict[str, Any]]:
    """The machine's memory as that of its GPU, of a Jetson.

    Args:
        board: content of /proc/device-tree/compatible.
        meminfo: content of /proc/meminfo.
    """
    if "nvidia,tegra" not in board:
        return []
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.endswith(" kB")}
    total, free = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    return [{"name": "Jetson, memory of the machine", "used_bytes": total - free, "total_bytes": total}] if total else []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
