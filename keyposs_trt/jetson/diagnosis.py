"""All findings of a Jetson, each probe on a thread of its own, so that a driver that does not answer holds nothing up."""

from __future__ import annotations

import threading
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from keyposs_trt.findings import OPTIONAL, Finding
from keyposs_trt.jetson import board as boards
from keyposs_trt.jetson import power, software
from keyposs_trt.jetson.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE = 5.0  # seconds


def diagnose(machine: Machine | None = None) -> list[Finding]:
    """What a Jetson has; nothing on other machines. Never raises, changes nothing, and no probe is waited for longer than five seconds."""
    here = machine or Machine()
    board = boards.read_board(here)
    if board is None:
        return []
    findings = [boards.board_finding(board), boards.jetpack_finding(board)]
    probes: dict[str, Callable[[Machine], Finding]] = {
        "Power mode": power.power_finding,
        "Clocks": power.clocks_finding,
        "Throttling": power.heat_finding,
        "Shared memory": power.memory_finding,
        "Camera plugins": software.gstreamer_finding,
        "Device rights": software.rights_finding,
        "Cameras": software.cameras_finding,
    }
    if board.supported:
        probes["System TensorRT"] = software.tensorrt_finding
        if version := _bindings_version():
            probes["CUDA bindings"] = lambda _: software.bindings_finding(board, version)
    return findings + [bounded(part, partial(probe, here)) for part, probe in probes.items()]


def bounded(part: str, probe: Callable[[], Finding], patience: float = _PATIENCE) -> Finding:
    """What a probe finds, or that it gave no answer within ``patience`` seconds, or failed."""
    found: list[Finding] = []

    def work() -> None:
        try:
            found.append(probe())
        except Exception as e:  # noqa: BLE001 (whatever a probe stumbles over, the other lines are told)
            found.append(
                Finding(
                    part,
                    OPTIONAL,
                    f"cannot be told ({' '.join(str(e).split()) or type(e).__name__})",
                    "docs/jetson.md says where it is read",
                )
            )

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(patience)
    return (
        found[0] if found else Finding(part, OPTIONAL, f"no answer within {patience:g} seconds", "see docs/jetson.md, or restart the board")
    )


def _bindings_version() -> str:
    try:
        return metadata.version("cuda-bindings")
    except metadata.PackageNotFoundError:
        return ""
