"""What the CUDA driver says of this machine, asked through ctypes: no CUDA package is needed and no context is made."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_NAME_BYTES = 256
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class Gpu:
    """One CUDA device.

    Attributes:
        name: as the driver names it.
        capability: compute capability, (8, 6) for an RTX 30.
    """

    name: str
    capability: tuple[int, int]

    @property
    def target(self) -> str:
        """The device as a build target: ``sm86``."""
        return f"sm{self.capability[0]}{self.capability[1]}"


@dataclass(frozen=True)
class Driver:
    """The CUDA driver of this machine.

    Attributes:
        cuda: newest CUDA version the driver runs, such as "13.0"; None without a driver.
        gpus: the devices it shows (``CUDA_VISIBLE_DEVICES`` counts).
        problem: why there is none, empty where there is one.
    """

    cuda: str | None
    gpus: tuple[Gpu, ...]
    problem: str = ""


def query_driver() -> Driver:
    """Asks the driver for its version and its devices; never raises."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return Driver(None, (), f"no NVIDIA driver ({library} not found)")
    version = ctypes.c_int()
    code = cuda.cuDriverGetVersion(ctypes.byref(version))
    name = f"{version.value // 1000}.{version.value % 1000 // 10}" if code == 0 else None
    code = cuda.cuInit(0)
    if code:
        return Driver(name, (), f"the NVIDIA driver does not start ({_error(cuda, code)})")
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if not count.value:
        return Driver(name, (), "the NVIDIA driver shows no GPU")
    return Driver(name, tuple(_device(cuda, i) for i in range(count.value)))


def current_gpu() -> Gpu | None:
    """The GPU that engines are built for and run on: the driver's first; None without one."""
    gpus = query_driver().gpus
    return gpus[0] if gpus else None


def free_memory() -> int | None:
    """Bytes free on the first GPU, which on a Jetson is the machine's memory; None where they cannot be had."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    # The device's own context, which the CUDA runtime uses too: asking does not make another.
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return None
    try:
        if cuda.cuCtxPushCurrent_v2(context):
            return None
        code = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)
    return None if code else int(free.value)


def _device(cuda: ctypes.CDLL, index: int) -> Gpu:
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, _NAME_BYTES, handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, handle)
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value))


def _error(cuda: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    if cuda.cuGetErrorName(code, ctypes.byref(text)) == 0 and text.value:
        return text.value.decode(errors="replace")
    return f"CUDA error {code}"
