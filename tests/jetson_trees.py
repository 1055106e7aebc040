"""Files of Jetsons as public reports and NVIDIA's developer guides show them, cut to what is read, to be written under a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyposs_trt.jetson.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

USERSPACE = "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\nTARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n"
GROUPS = "root:x:0:\naudio:x:29:pulse\nvideo:x:44:anna\nrender:x:104:anna\n"
MEMINFO = """\
MemTotal:        7802872 kB
MemFree:         4013960 kB
MemAvailable:    5711152 kB
SwapTotal:       3901428 kB
SwapFree:        3901428 kB
CmaTotal:         262144 kB
CmaFree:          259584 kB
HugePages_Total:       0
"""
ZRAM = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/zram0                              partition\t1950712\t\t0\t\t5
/dev/zram1                              partition\t1950712\t\t0\t\t5
"""


def packages(*versions: tuple[str, str]) -> str:
    """Debian's status file with these packages, between two others."""
    blocks = [("bash", "5.1-6ubuntu1.1"), *versions, ("zlib1g", "1:1.2.11")]
    return "\n".join(
        f"Package: {name}\nStatus: install ok installed\nPriority: standard\nDepends: libc6,\n libfoo\nVersion: {version}\nDescription: x\n"
        for name, version in blocks
    )


def power_config(modes: list[str], default: int) -> str:
    """A nvpmodel.conf with these modes, from 0."""
    head = "# FORMAT:\n# < POWER_MODEL ID=PARAM_ID NAME=PARAM_NAME >\n\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\n"
    head += "CORE_0 /sys/devices/system/cpu/cpu0/online\n"
    body = "".join(f"\n< POWER_MODEL ID={i} NAME={name} >\nCPU_ONLINE CORE_0 1\nGPU MAX_FREQ 625000000\n" for i, name in enumerate(modes))
    return f"{head}{body}\n# mandatory section\n< PM_CONFIG DEFAULT={default} >\n"


@dataclass
class Tree:
    """A board's files by path; ``write`` puts them under a folder."""

    files: dict[str, str | bytes] = field(default_factory=dict)

    def write(self, root: Path) -> Path:
        for name, content in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root


def _board(model: str, compatible: list[str], release: str, status: str) -> dict[str, str | bytes]:
    return {
        "proc/device-tree/model": f"{model}\0".encode(),
        "proc/device-tree/compatible": b"".join(f"{name}\0".encode() for name in compatible),
        "etc/nv_tegra_release": release,
        "var/lib/dpkg/status": status,
        "etc/group": GROUPS,
    }


def _cpu(cores: int, low: int, high: int) -> dict[str, str | bytes]:
    folder = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_{}_freq"
    return {folder.format(i, name): f"{value}\n" for i in range(cores) for name, value in (("min", low), ("max", high), ("cur", low))}


def _gpu(name: str, low: int, high: int, governor: str) -> dict[str, str | bytes]:
    folder = f"sys/class/devfreq/{name}"
    return {
        f"{folder}/min_freq": f"{low}\n",
        f"{folder}/max_freq": f"{high}\n",
        f"{folder}/cur_freq": f"{low}\n",
        f"{folder}/governor": governor,
    }


def _heat(zones: dict[str, int], brakes: dict[str, int], events: list[int]) -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {}
    for i, (name, value) in enumerate(zones.items()):
        files |= {f"sys/class/thermal/thermal_zone{i}/type": f"{name}\n", f"sys/class/thermal/thermal_zone{i}/temp": f"{value}\n"}
    for i, (name, value) in enumerate(brakes.items()):
        files |= {f"sys/class/thermal/cooling_device{i}/type": f"{name}\n", f"sys/class/thermal/cooling_device{i}/cur_state": f"{value}\n"}
    return files | {f"sys/class/hwmon/hwmon3/oc{i}_event_cnt": f"{count}\n" for i, count in enumerate(events, 1)}


def _tensorrt(python: str, version: str) -> dict[str, str | bytes]:
    folder = f"usr/lib/python{python}/dist-packages"
    return {f"{folder}/tensorrt/__init__.py": "", f"{folder}/tensorrt-{version}.dist-info/METADATA": "Name: tensorrt\n"}


GSTREAMER: dict[str, str | bytes] = {
    "usr/bin/gst-launch-1.0": "",
    **{
        f"usr/lib/aarch64-linux-gnu/gstreamer-1.0/{name}": ""
        for name in ("libgstgdp.so", "libgstrtsp.so", "libgstnvarguscamerasrc.so", "libgstnvvideo4linux2.so", "libgstnvvidconv.so")
    },
}


def orin_nano() -> Tree:
    """Jetson Orin Nano Super developer kit with JetPack 6.2, as it comes up: 25 W, clocks that follow the load, a CSI camera."""
    release = (
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n" + USERSPACE
    )
    status = packages(("nvidia-jetpack", "6.2+b77"), ("nvidia-l4t-core", "36.4.3-20250107174145"))
    compatible = ["nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"]
    return Tree(
        _board("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", compatible, release, status)
        | {"etc/nvpmodel.conf": power_config(["15W", "25W", "MAXN_SUPER", "7W"], 1), "var/lib/nvpmodel/status": "pmode:0001\n"}
        | _cpu(6, 729600, 1344000)
        | _gpu("17000000.gpu", 306000000, 918000000, "nvhost_podgov\n")
        | _heat(
            {"cpu-thermal": 49312, "gpu-thermal": 50531, "cv0-thermal": -256000, "tj-thermal": 50531},
            {"cpu-throttle-alert": 0, "gpu-throttle-alert": 0, "hot-surface-alert": 0, "pwm-fan": 2, "devfreq-17000000.gpu": 0},
            [0, 0, 0],
        )
        | {"proc/meminfo": MEMINFO, "proc/swaps": ZRAM}
        | _tensorrt("3.10", "10.3.0")
        | GSTREAMER
        | {"dev/video0": "", "sys/class/video4linux/video0/name": "vi-output, imx219 9-0010\n"}
    )


def agx_orin() -> Tree:
    """Jetson AGX Orin developer kit with JetPack 6.1 in MAXN, under jetson_clocks."""
    release = "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64, DATE: Fri Sep 13 04:36:44 UTC 2024\n"
    status = packages(("nvidia-jetpack", "6.1+b123"))
    compatible = ["nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234", "nvidia,tegra23x"]
    return Tree(
        _board("NVIDIA Jetson AGX Orin Developer Kit", compatible, release, status)
        | {"etc/nvpmodel.conf": power_config(["MAXN", "15W", "30W", "50W"], 2), "var/lib/nvpmodel/status": "pmode:0000\n"}
        | _cpu(12, 2201600, 2201600)
        | _gpu("17000000.gpu", 1300500000, 1300500000, "nvhost_podgov\n")
        | _heat({"cpu-thermal": 61000, "gpu-thermal": 63500}, {"cpu-throttle-alert": 0}, [0, 0, 0])
        | {"proc/meminfo": MEMINFO.replace("7802872", "64349952").replace("5711152", "58711152"), "proc/swaps": ZRAM}
        | _tensorrt("3.10", "10.3.0")
        | GSTREAMER
        | {"dev/video0": "", "sys/class/video4linux/video0/name": "HD Pro Webcam C920\n", "dev/video10": "", "dev/video2": ""}
    )


def thor() -> Tree:
    """Jetson AGX Thor developer kit with JetPack 7.2: two frequency domains of the GPU, an over-current event at the start."""
    release = (
        "# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, DATE: Mon Jun  1 09:28:48 PM UTC 2026\n" + USERSPACE
    )
    status = packages(("nvidia-jetpack-dev", "7.2-b187"))
    compatible = ["nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"]
    return Tree(
        _board("NVIDIA Jetson AGX Thor Developer Kit", compatible, release, status)
        | {"etc/nvpmodel.conf": power_config(["MAXN", "120W"], 1), "var/lib/nvpmodel/status": "pmode:0000\n"}
        | _cpu(14, 972000, 2601000)
        | _gpu("gpu-gpc-0", 315000000, 1575000000, "nvhost_podgov\n")
        | _gpu("gpu-nvd-0", 315000000, 1692000000, "nvhost_podgov\n")
        | _heat({"cpu-thermal": 36000, "gpu-thermal": 36500}, {"pwm-fan": 3}, [0, 0, 1])
        | {
            "proc/meminfo": MEMINFO.replace("7802872", "128802872"),
            "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/swapfile file 8388604 0 -2\n",
        }
        | _tensorrt("3.12", "10.16.2.10")
        | {"usr/bin/gst-launch-1.0": ""}
    )


def xavier() -> Tree:
    """Jetson AGX Xavier with JetPack 5.1.2, which is not supported."""
    release = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 UTC 2023\n"
    compatible = ["nvidia,p2972-0000", "nvidia,tegra194"]
    return Tree(
        _board("Jetson-AGX", compatible, release, packages(("nvidia-jetpack", "5.1.2-b104")))
        | {"etc/nvpmodel.conf": power_config(["MAXN", "MODE_10W", "MODE_15W"], 2), "var/lib/nvpmodel/status": "pmode:0002\n"}
        | _cpu(8, 115200, 1190400)
        | _gpu("17000000.gv11b", 114750000, 675750000, "nvhost_podgov\n")
        | {"proc/meminfo": MEMINFO, "proc/swaps": ZRAM}
        | _tensorrt("3.8", "8.5.2.2")
    )


def machine(root: Path, tree: Tree, **other: object) -> Machine:
    """A machine with this tree, whose user is in the groups video and render and whose Python is a bare 3.10."""
    settings: dict[str, object] = {
        "python": (3, 10),
        "path": (),
        "prefix": "/opt/keyposs-trt/venv",
        "user": 1000,
        "groups": frozenset({44, 104}),
        "ask": _silent,
    }
    return Machine(root=tree.write(root), **(settings | other))  # pyright: ignore[reportArgumentType]


def _silent(command: object) -> str:
    raise AssertionError(f"{command} was run, though files tell")
