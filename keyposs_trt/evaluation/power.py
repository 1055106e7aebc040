"""What a computation takes from the wall: energy by the sensor of a Jetson, an NVIDIA GPU or a processor, where one can be read."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY = 0.02  # seconds between two readings of a sensor that knows power alone
# Rails of the whole module by board; the last is that of a Jetson AGX Orin, which has none for its sum.
_WHOLE = (("VDD_IN",), ("VIN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))


@dataclass(frozen=True)
class Sensor:
    """One source of energy readings. What it measures goes on when nothing is computed, and that is in its figures.

    Attributes:
        name: what it measures, for the report.
        joules: reads a counter of energy; None for a sensor that knows power alone.
        watts: reads power; None for a counter.
        wraps: joules after which the counter begins again at 0; None for never.
    """

    name: str
    joules: Callable[[], float] | None = None
    watts: Callable[[], float] | None = None
    wraps: float | None = None

    def measure(self, work: Callable[[], Any]) -> float:
        """Joules that were used while ``work`` ran."""
        if self.joules is not None:
            start = self.joules()
            work()
            used = self.joules() - start
            return used + self.wraps if used < 0 and self.wraps else used
        assert self.watts is not None  # a sensor has one of both
        return _integrate(self.watts, work)


def find_sensor(gpu: bool, root: Path = Path("/")) -> tuple[Sensor | None, str]:
    """The sensor for what runs on the processor or on the GPU.

    Args:
        gpu: the work runs on the GPU.
        root: of the file system.

    Returns:
        the sensor, or None and in a sentence why there is none.
    """
    jetson = _jetson(root)
    if jetson is not None:
        return jetson, ""
    return _nvml() if gpu else _rapl(root)


def _jetson(root: Path) -> Sensor | None:
    """The INA3221 of a Jetson: volts and amperes of its rails."""
    rails: dict[str, tuple[Path, Path]] = {}
    folders = [*root.glob("sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*"), *root.glob("sys/class/hwmon/hwmon*")]
    for label in (file for folder in folders for file in sorted(folder.glob("in*_label"))):
        number = label.name[2 : -len("_label")]
        files = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
        name = _text(label)
        if name and all(_number(file) is not None for file in files):
            rails.setdefault(name, files)
    names = next((names for names in _WHOLE if all(name in rails for name in names)), None)
    if names is None:
        return None
    read = [rails[name] for name in names]
    return Sensor(f"Jetson, {' + '.join(names)}", watts=lambda: sum((_number(v) or 0) * (_number(a) or 0) for v, a in read) / 1e6)


def _rapl(root: Path) -> tuple[Sensor | None, str]:
    """The energy counters of the processor's packages."""
    packages = sorted(root.glob("sys/class/powercap/intel-rapl:?"))
    if not packages:
        return None, "This processor shows no energy counter (no intel-rapl in /sys/class/powercap)."
    files = [package / "energy_uj" for package in packages]
    if any(_number(file) is None for file in files):
        return None, "The energy counter of the processor may be read by root alone (/sys/class/powercap/intel-rapl:0/energy_uj)."
    largest = _number(packages[0] / "max_energy_range_uj")
    wraps = largest / 1e6 if largest else None
    return Sensor("processor package (RAPL)", joules=lambda: sum(_number(file) or 0 for file in files) / 1e6, wraps=wraps), ""


def _nvml() -> tuple[Sensor | None, str]:
    """The first NVIDIA GPU."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None, "The GPU's power is read with the package nvidia-ml-py, which is not installed: pip install nvidia-ml-py."
    try:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)
    except nvml.NVMLError as e:
        return None, f"NVIDIA's management library does not tell of the GPU's power ({e})."
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(device)
        return Sensor("GPU (NVML energy counter)", joules=lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1e3), ""
    except nvml.NVMLError:
        pass
    try:
        nvml.nvmlDeviceGetPowerUsage(device)
        return Sensor("GPU (NVML power)", watts=lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1e3), ""
    except nvml.NVMLError as e:
        return None, f"This GPU does not tell its power ({e})."


def _integrate(watts: Callable[[], float], work: Callable[[], Any]) -> float:
    """Power over time by the trapezium rule, read by a thread while ``work`` runs."""
    readings = [(time.perf_counter(), watts())]
    done = threading.Event()

    def read() -> None:
        while not done.wait(_EVERY):
            readings.append((time.perf_counter(), watts()))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    readings.append((time.perf_counter(), watts()))
    return sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(readings))


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> float | None:
    """None where the file cannot be read, or holds no number."""
    try:
        return float(_text(file))
    except ValueError:
        return None
