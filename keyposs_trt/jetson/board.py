"""Which Jetson this is, and which JetPack it runs.

Sources: ``/proc/device-tree/model`` and ``compatible``, ``/etc/nv_tegra_release``, and Debian's record of the packages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyposs_trt.findings import OK, OPTIONAL, Finding

if TYPE_CHECKING:
    from keyposs_trt.jetson.machine import Machine

RELEASE_FILE, PACKAGES_FILE = "etc/nv_tegra_release", "var/lib/dpkg/status"
OLDEST, OLDEST_GENERATION = (36, 4), 6  # Jetson Linux of JetPack 6.1, the first with TensorRT 10
# Compute capability of each chip's GPU.
_CHIPS = {"tegra194": (7, 2), "tegra234": (8, 7), "tegra264": (11, 0)}
# Generation of JetPack by the first number of Jetson Linux.
_GENERATIONS = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}
_TENSORRT = {4: "TensorRT 8.2", 5: "TensorRT 8.5", 6: "TensorRT 8.6"}
# Chips that get no newer generation than this.
_LAST = {"tegra210": 4, "tegra186": 4, "tegra194": 5}
# NVIDIA's packages of all of JetPack, or of its libraries alone.
_JETPACKS = ("nvidia-jetpack", "nvidia-jetpack-runtime", "nvidia-jetpack-dev")


@dataclass(frozen=True)
class Board:
    """A Jetson.

    Attributes:
        model: name of the board, as its device tree has it; empty where that cannot be read.
        chip: such as ``tegra234``; empty where unknown.
        linux: version of Jetson Linux, (36, 4, 3); empty where unknown.
        jetpack: version of the package nvidia-jetpack, such as 6.2; empty where it is not installed.
    """

    model: str
    chip: str
    linux: tuple[int, ...] = ()
    jetpack: str = ""

    @property
    def capability(self) -> tuple[int, int] | None:
        """Compute capability of the GPU; None for a chip that is not known."""
        return _CHIPS.get(self.chip)

    @property
    def generation(self) -> int | None:
        """The JetPack generation, 5, 6 or 7; None where unknown."""
        if self.jetpack:
            return int(self.jetpack.split(".")[0])
        return _GENERATIONS.get(self.linux[0]) if self.linux else None

    @property
    def supported(self) -> bool:
        """Whether its TensorRT can be new enough; also where nothing is known of it."""
        old = (bool(self.linux) and self.linux[:2] < OLDEST) or (self.generation is not None and self.generation < OLDEST_GENERATION)
        return self.chip not in _LAST and not old


def read_board(machine: Machine) -> Board | None:
    """The board; None on a machine that is no Jetson."""
    release = machine.text(RELEASE_FILE)
    chip = re.search(r"\bnvidia,(tegra\d{3})\b", machine.text("proc/device-tree/compatible"))
    if not release and chip is None:
        return None
    packages = machine.text(PACKAGES_FILE)
    numbers = _release_numbers(release) or _numbers(_package_version(packages, "nvidia-l4t-core"))
    jetpack = _jetpack_version(packages)
    return Board(machine.text("proc/device-tree/model"), chip[1] if chip else "", numbers, ".".join(map(str, _numbers(jetpack))))


def describe_release(tegra_release: str, dpkg_status: str) -> str:
    """Jetson Linux and JetPack in words; empty on other machines.

    Args:
        tegra_release: content of /etc/nv_tegra_release.
        dpkg_status: content of /var/lib/dpkg/status, for the version of nvidia-jetpack.
    """
    if not tegra_release:
        return ""
    numbers = _release_numbers(tegra_release)
    name = f"Jetson Linux {'.'.join(map(str, numbers))}" if numbers else "Jetson Linux"
    jetpack = _jetpack_version(dpkg_status)
    return f"{name}, JetPack {jetpack.split('+')[0]}" if jetpack else f"{name}, JetPack's packages are not installed"


def board_finding(board: Board) -> Finding:
    """The board itself, and what to compile for."""
    chip = board.chip or "unknown chip"
    gpu = f", GPU sm_{board.capability[0]}{board.capability[1]}" if board.capability else ""
    return Finding("Jetson", OK, f"{board.model or 'unknown model'} ({chip}{gpu})")


def jetpack_finding(board: Board) -> Finding:
    """Whether TensorRT of this JetPack is new enough."""
    numbers = ".".join(map(str, board.linux))
    linux = f"Jetson Linux {numbers}" if numbers else "Jetson Linux of unknown version"
    generation = board.generation
    name = f"JetPack {board.jetpack or generation}" if generation else "unknown JetPack"
    if not board.supported:
        has = _TENSORRT.get(generation or _LAST.get(board.chip, 0), "its TensorRT")
        found = f"{name} ({linux}) is not supported: {has} has no IPluginV3, and engines need TensorRT 10.3 or newer"
        if board.chip in _LAST:
            remedy = f"this board gets no newer one than JetPack {_LAST[board.chip]}: run ONNX models on its CPU, or take an Orin or a Thor"
        else:
            remedy = "flash JetPack 6.1 or newer; until then run ONNX models on the CPU"
        return Finding("JetPack", OPTIONAL, found, remedy)
    if not board.jetpack:
        return Finding("JetPack", OPTIONAL, f"{linux}; the package nvidia-jetpack is not installed", "sudo apt install nvidia-jetpack")
    return Finding("JetPack", OK, f"{board.jetpack} ({linux})")


def _jetpack_version(status: str) -> str:
    return next((version for package in _JETPACKS if (version := _package_version(status, package))), "")


def _release_numbers(text: str) -> tuple[int, ...]:
    match = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text)
    return _numbers(f"{match[1]}.{match[2]}") if match else ()


def _numbers(version: str) -> tuple[int, ...]:
    """36.4.3-2025... gives (36, 4, 3)."""
    match = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return tuple(int(n) for n in match.group().split(".")) if match else ()


def _package_version(status: str, package: str) -> str:
    """Version of an installed Debian package by the text of dpkg's status file; empty where it is not installed."""
    block = re.search(rf"^Package: {re.escape(package)}\n(?:\S.*\n?|[ \t].*\n?)*", status, re.MULTILINE)
    if block is None or re.search(r"^Status: .*\b(not-installed|config-files)$", block.group(), re.MULTILINE):
        return ""
    version = re.search(r"^Version: (\S+)", block.group(), re.MULTILINE)
    return version[1] if version else ""
