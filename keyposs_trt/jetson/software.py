"""What engines and cameras need of a Jetson's system: TensorRT for this Python, GStreamer's plugins, rights to the devices, cameras."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.findings import OK, OPTIONAL, Finding

if TYPE_CHECKING:
    from keyposs_trt.jetson.board import Board
    from keyposs_trt.jetson.machine import Machine

_GSTREAMER = "usr/lib/aarch64-linux-gnu/gstreamer-1.0"
# Elements by the library that holds them, and the package it is in.
_ELEMENTS = {
    "gdppay": ("libgstgdp.so", "gstreamer1.0-plugins-bad"),
    "rtspsrc": ("libgstrtsp.so", "gstreamer1.0-plugins-good"),
    "nvarguscamerasrc": ("libgstnvarguscamerasrc.so", "nvidia-l4t-camera"),
    "nvv4l2decoder": ("libgstnvvideo4linux2.so", "nvidia-l4t-gstreamer"),
    "nvvidconv": ("libgstnvvidconv.so", "nvidia-l4t-gstreamer"),
}
# Groups that own the devices of GPU, decoder and cameras; of "render" are /dev/dri/renderD*, which CUDA opens too.
_GROUPS = ("video", "render")


def tensorrt_finding(machine: Machine) -> Finding:
    """Whether this Python sees the TensorRT of JetPack, which is a package of the system's Python alone."""
    part = "System TensorRT"
    if any((Path(folder) / "tensorrt" / "__init__.py").is_file() for folder in machine.path if folder):
        return Finding(part, OK, "this Python sees it")
    places = machine.glob("usr/lib/python3*/dist-packages/tensorrt/__init__.py")
    if not places:
        remedy = "sudo apt install python3-libnvinfer (also part of nvidia-jetpack)"
        return Finding(part, OPTIONAL, "no module tensorrt in /usr/lib/python3*/dist-packages", remedy)
    packages = places[-1].parent.parent
    version = next((re.sub(r"^tensorrt-|\.dist-info$", "", p.name) for p in sorted(packages.glob("tensorrt-*.dist-info"))), "")
    found = f"{version} in {packages}".strip()
    owner = re.search(r"python(\d+)\.(\d+)", str(packages))
    name = f"python{owner[1]}.{owner[2]}" if owner else "python3"
    if owner and (int(owner[1]), int(owner[2])) != machine.python:
        here = ".".join(map(str, machine.python))
        remedy = f"make the environment with the system's Python: /usr/bin/{name} -m venv --system-site-packages DIR"
        return Finding(part, OPTIONAL, f"{found} is for {name}, and this is Python {here}", remedy)
    return Finding(
        part,
        OPTIONAL,
        f"{found}, which the environment {machine.prefix} does not see",
        f"/usr/bin/{name} -m venv --system-site-packages {machine.prefix} (what is installed in it stays)",
    )


def bindings_finding(board: Board, version: str) -> Finding:
    """Whether cuda-bindings fits the driver.

    Args:
        board: the board.
        version: of cuda-bindings, which is installed.
    """
    if board.generation == 6 and int(re.sub(r"\D.*", "", version) or 0) >= 13:
        remedy = "pip install 'cuda-bindings>=12.6,<13'"
        return Finding("CUDA bindings", OPTIONAL, f"{version}, which needs a newer driver than JetPack 6 has", remedy)
    return Finding("CUDA bindings", OK, f"{version} fits JetPack {board.generation or ''}".strip())


def gstreamer_finding(machine: Machine) -> Finding:
    """The program and the plugins of CSI cameras and hardware decoding, which cost no start of GStreamer to find."""
    missing = {element: package for element, (file, package) in _ELEMENTS.items() if not (machine.root / _GSTREAMER / file).is_file()}
    packages = set(missing.values())
    if not machine.program("gst-launch-1.0"):
        missing["gst-launch-1.0"] = "gstreamer1.0-tools"
        packages |= {"gstreamer1.0-tools", "gstreamer1.0-plugins-base"}
    if not missing:
        return Finding("Camera plugins", OK, f"gst-launch-1.0, {', '.join(_ELEMENTS)}")
    remedy = f"for CSI cameras, RTSP and hardware decoding: sudo apt install {' '.join(sorted(packages))}"
    return Finding("Camera plugins", OPTIONAL, f"missing: {', '.join(missing)}", remedy)


def rights_finding(machine: Machine) -> Finding:
    """Whether this user may open the GPU, the decoder and cameras."""
    numbers = {m[1]: int(m[2]) for m in re.finditer(r"^([\w-]+):[^:\n]*:(\d{1,9}):", machine.text("etc/group"), re.MULTILINE)}
    wanted = {name: numbers[name] for name in _GROUPS if name in numbers}
    if machine.user == 0:
        return Finding("Device rights", OK, "root")
    absent = [name for name, number in wanted.items() if number not in machine.groups]
    if not absent:
        return Finding("Device rights", OK, f"in the groups {', '.join(wanted)}" if wanted else "the system has no group for devices")
    remedy = f'sudo usermod -aG {",".join(absent)} "$USER", then log in anew'
    return Finding("Device rights", OPTIONAL, f"this user is not in {' and '.join(absent)}, who own the GPU and cameras", remedy)


def cameras_finding(machine: Machine) -> Finding:
    """The video devices by name; a CSI camera shows here too, as the video input that nvarguscamerasrc reads."""
    cameras = []
    for device in sorted(machine.glob("dev/video[0-9]*"), key=lambda p: (len(p.name), p.name)):
        name = machine.text(f"sys/class/video4linux/{device.name}/name")
        cameras.append(f"/dev/{device.name}" + (f" {name}" if name else ""))
    if cameras:
        return Finding("Cameras", OK, ", ".join(cameras))
    remedy = "plug in a USB camera; for a CSI camera choose its overlay with: sudo /opt/nvidia/jetson-io/jetson-io.py, then restart"
    return Finding("Cameras", OPTIONAL, "no /dev/video*", remedy)
