"""Power sensors in file systems made up for the purpose; nobody's clock is trusted."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from keyposs_trt.evaluation import power
from keyposs_trt.evaluation.power import Sensor, find_sensor


def files(root, folder, values):
    (root / folder).mkdir(parents=True)
    for name, value in values.items():
        (root / folder / name).write_text(f"{value}\n")


def rails(*names, volts=5000, amperes=1200):
    return {
        f"{kind}{i}_{what}": value
        for i, name in enumerate(names, 1)
        for kind, what, value in (("in", "label", name), ("in", "input", volts), ("curr", "input", amperes))
    }


@pytest.mark.parametrize(
    ("names", "title", "watts"),
    [
        (("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), "Jetson, VDD_IN", 6.0),
        (("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "Jetson, VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0", 18.0),
    ],
)
@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("folder", ["sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1", "sys/class/hwmon/hwmon3"])
def test_a_jetson(tmp_path, names, title, watts, gpu, folder):
    files(tmp_path, folder, rails(*names))
    sensor, reason = find_sensor(gpu, tmp_path)
    assert (sensor.name, reason) == (title, "")
    assert sensor.watts() == pytest.approx(watts)


def test_power_over_time(tmp_path, monkeypatch):
    """6 W for 3 s by a clock of our own, whoever reads it."""
    files(tmp_path, "sys/class/hwmon/hwmon0", rails("VDD_IN"))
    sensor, _ = find_sensor(True, tmp_path)
    now = [0.0]
    monkeypatch.setattr(power.time, "perf_counter", lambda: now[0])
    assert sensor.measure(lambda: now.__setitem__(0, 3.0)) == pytest.approx(18.0)


def test_hwmon_of_something_else(tmp_path):
    files(tmp_path, "sys/class/hwmon/hwmon0", {"in0_label": "Vcore", "in0_input": 1100, "temp1_input": 4000})
    assert find_sensor(False, tmp_path)[0] is None


def test_the_counter_of_a_processor(tmp_path):
    folder = "sys/class/powercap/intel-rapl:0"
    files(tmp_path, folder, {"name": "package-0", "energy_uj": 5_000_000, "max_energy_range_uj": 262_000_000})
    files(tmp_path, "sys/class/powercap/intel-rapl:0:0", {"energy_uj": 1})
    sensor, _ = find_sensor(False, tmp_path)
    assert "RAPL" in sensor.name
    counter = tmp_path / folder / "energy_uj"
    assert sensor.measure(lambda: counter.write_text("7500000\n")) == pytest.approx(2.5)
    assert sensor.measure(lambda: counter.write_text("500000\n")) == pytest.approx(262 - 7)  # it began again at 0


def test_a_counter_that_may_not_be_read(tmp_path):
    files(tmp_path, "sys/class/powercap/intel-rapl:0", {"name": "package-0"})
    sensor, reason = find_sensor(False, tmp_path)
    assert sensor is None
    assert "by root alone" in reason


def test_nothing_to_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_sensor(False, tmp_path) == (None, "This processor shows no energy counter (no intel-rapl in /sys/class/powercap).")
    sensor, reason = find_sensor(True, tmp_path)
    assert sensor is None
    assert reason.endswith("pip install nvidia-ml-py.")


class NVMLError(Exception):
    pass


def raising(*_):
    raise NVMLError("Not Supported")


def nvml(**changes):
    energy = iter(range(1000, 100_000, 4000))
    whole = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetTotalEnergyConsumption": lambda device: next(energy),
        "nvmlDeviceGetPowerUsage": lambda device: 70_000,
    }
    return SimpleNamespace(**{**whole, **changes})


def test_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    sensor, _ = find_sensor(True, tmp_path)
    assert "counter" in sensor.name
    assert sensor.measure(lambda: None) == pytest.approx(4.0)
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetTotalEnergyConsumption=raising))
    sensor, _ = find_sensor(True, tmp_path)
    assert (sensor.name, sensor.watts()) == ("GPU (NVML power)", 70.0)
    silent = nvml(nvmlDeviceGetTotalEnergyConsumption=raising, nvmlDeviceGetPowerUsage=raising)
    for broken, words in ((silent, "does not tell its power"), (nvml(nvmlInit=raising), "does not tell of the GPU's power")):
        monkeypatch.setitem(sys.modules, "pynvml", broken)
        sensor, reason = find_sensor(True, tmp_path)
        assert sensor is None
        assert words in reason


def test_work_that_fails_ends_the_reading():
    sensor = Sensor("x", watts=lambda: 1.0)
    with pytest.raises(ZeroDivisionError):
        sensor.measure(lambda: 1 / 0)
