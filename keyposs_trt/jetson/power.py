"""Power mode, clocks, heat and memory of a Jetson, by the files that nvpmodel, jetson_clocks and the kernel leave.

``/var/lib/nvpmodel/status`` holds ``pmode:0002``; ``/etc/nvpmodel.conf`` the modes, ``< POWER_MODEL ID=2 NAME=MAXN_SUPER >``, and the one
after flashing, ``< PM_CONFIG DEFAULT=1 >``. jetson_clocks sets the least frequency of CPU and GPU to the largest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keyposs_trt.findings import OK, OPTIONAL, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from keyposs_trt.jetson.machine import Machine

_LITTLE_MEMORY = 1 << 30  # bytes; building an engine wants more
_GPU = re.compile(r"gpu|ga10b|gv11b")
_BRAKE = re.compile(r"cpufreq|devfreq|throttle")


def power_finding(machine: Machine) -> Finding:
    """The power mode, and the board's other ones; each is a choice, so none is wrong."""
    current, modes = read_power_mode(machine)
    if current is None:
        return Finding("Power mode", OPTIONAL, "neither nvpmodel's files nor nvpmodel tell it", "look with: sudo nvpmodel -q")
    others = ", ".join(f"{number} {name}" for number, name in modes.items() if number != current)
    name = modes.get(current) or "unknown"
    return Finding("Power mode", OK, f"{name}, mode {current}" + (f"; others: {others} (sudo nvpmodel -m NUMBER)" if others else ""))


def read_power_mode(machine: Machine) -> tuple[int | None, dict[int, str]]:
    """The number of the power mode, None where it cannot be told, and the names of all by number."""
    config = machine.text("etc/nvpmodel.conf")
    modes = {int(n): name for n, name in re.findall(r"^<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=(\S+?)\s*>", config, re.MULTILINE)}
    status = re.search(r"pmode:(\d{1,9})", machine.text("var/lib/nvpmodel/status"))
    if status:
        return int(status[1]), modes
    if machine.program("nvpmodel"):
        name, number = parse_nvpmodel(machine.ask(["nvpmodel", "-q"]))
        if number is not None:
            return number, {number: name} | modes
    default = re.search(r"^<\s*PM_CONFIG\s+DEFAULT=(\d{1,4})\s*>", config, re.MULTILINE)
    return (int(default[1]) if default else None), modes


def parse_nvpmodel(text: str) -> tuple[str, int | None]:
    """Name and number of the mode in the output of ``nvpmodel -q``: ``NV Power Mode: MAXN_SUPER``, and below it ``2``."""
    match = re.search(r"^NV Power Mode: *(\S.*?) *\n\s*(\d{1,4})\s*$", text, re.MULTILINE)
    return (match[1], int(match[2])) if match else ("", None)


def clocks_finding(machine: Machine) -> Finding:
    """Whether jetson_clocks holds CPU and GPU at their largest frequency."""
    cpu = _range(machine, machine.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"), "scaling_min_freq", "scaling_max_freq", 1e3)
    folders = [folder for folder in machine.glob("sys/class/devfreq/*") if _GPU.search(folder.name)]
    gpu = _range(machine, folders, "min_freq", "max_freq", 1e6)
    known = [(name, *span) for name, span in (("CPU", cpu), ("GPU", gpu)) if span is not None]
    if not known:
        return Finding("Clocks", OPTIONAL, "the kernel shows no frequencies", "look with: sudo jetson_clocks --show")
    if all(low == high for _, low, high in known):
        return Finding("Clocks", OK, "held by jetson_clocks: " + ", ".join(f"{name} {high} MHz" for name, _, high in known))
    spans = ", ".join(f"{name} {low} MHz" if low == high else f"{name} {low} to {high} MHz" for name, low, high in known)
    return Finding(
        "Clocks",
        OPTIONAL,
        f"follow the load: {spans}",
        "for an even and short latency, after choosing the power mode: sudo jetson_clocks (until the next start; takes more power)",
    )


def _range(machine: Machine, folders: Sequence[Path], low: str, high: str, unit: float) -> tuple[int, int] | None:
    """The least and the largest frequency in MHz over folders of sysfs; None without any."""
    spans = [(machine.number(folder / low), machine.number(folder / high)) for folder in folders]
    whole = [(a, b) for a, b in spans if a is not None and b is not None]
    if not whole:
        return None
    # The span of the part that is held least: one core that follows the load is enough.
    least, largest = max(whole, key=lambda span: span[1] - span[0])
    return round(least / unit), round(largest / unit)


def heat_finding(machine: Machine) -> Finding:
    """The hottest sensor, whether clocks are being lowered, and over-current events since the start."""
    zones = [(temperature / 1000, name) for name, temperature in _zones(machine)]
    hottest = "no temperatures shown" if not zones else "hottest: {1} {0:.0f} °C".format(*max(zones))
    brakes = [
        name
        for device in machine.glob("sys/class/thermal/cooling_device*")
        if _BRAKE.search(name := machine.text(device / "type")) and (machine.number(device / "cur_state") or 0) > 0
    ]
    if brakes:
        cooling = "cool the board (fan, heat sink, air), or choose a lower power mode; figures measured now are too low"
        return Finding("Throttling", OPTIONAL, f"clocks are being lowered for heat ({', '.join(sorted(set(brakes)))}); {hottest}", cooling)
    events = {file.name.split("_")[0]: machine.number(file) or 0 for file in machine.glob("sys/class/hwmon/hwmon*/oc*_event_cnt")}
    counted = ", ".join(f"{name} {count}" for name, count in events.items() if count > 0)
    if counted:
        supply = "use the supply that came with the board, or choose a lower power mode; the clocks drop at each event"
        return Finding("Throttling", OPTIONAL, f"over-current or under-voltage events since the start: {counted}; {hottest}", supply)
    return Finding("Throttling", OK, f"none; {hottest}")


def _zones(machine: Machine) -> list[tuple[str, int]]:
    """Name and millidegrees of each sensor; one whose part is switched off cannot be read, or reads far below zero."""
    found = [(machine.text(zone / "type"), machine.number(zone / "temp")) for zone in machine.glob("sys/class/thermal/thermal_zone*")]
    return [(name, temperature) for name, temperature in found if temperature is not None and temperature > -100_000]


def memory_finding(machine: Machine) -> Finding:
    """Memory, which CPU and GPU share, with its contiguous part and the swap."""
    sizes = {name: int(kib) << 10 for name, kib in re.findall(r"^(\w+): +(\d{1,15}) kB$", machine.text("proc/meminfo"), re.MULTILINE)}
    total, free = sizes.get("MemTotal"), sizes.get("MemAvailable")
    if total is None or free is None:
        return Finding("Shared memory", OPTIONAL, "the kernel does not tell it", "look with: free -h")
    found = f"{_gib(free)} of {_gib(total)} GiB free, {_swap(machine)}"
    if sizes.get("CmaTotal"):
        found += f", contiguous {sizes.get('CmaFree', 0) >> 20} of {sizes['CmaTotal'] >> 20} MiB free"
    if free >= _LITTLE_MEMORY:
        return Finding("Shared memory", OK, found)
    remedy = "stop the desktop (sudo systemctl isolate multi-user.target); give the board a swap file on its SSD before building engines"
    return Finding("Shared memory", OPTIONAL, found, remedy)


def _swap(machine: Machine) -> str:
    lines = [line.split() for line in machine.text("proc/swaps").splitlines()[1:]]
    swaps = [(words[0], int(words[2])) for words in lines if len(words) > 2 and words[2].isdecimal()]
    size = sum(kib for _, kib in swaps) << 10
    if not size:
        return "no swap"
    return f"swap {_gib(size)} GiB" + (", in compressed memory alone (zram)" if all("zram" in name for name, _ in swaps) else "")


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f}"
