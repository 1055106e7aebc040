"""Engines: running a model, whatever the runtime, and building one for TensorRT."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyposs_trt.engine.build import build_engine as build_engine
    from keyposs_trt.engine.runner import Outputs as Outputs
    from keyposs_trt.engine.runner import Runner as Runner
    from keyposs_trt.engine.runner import open_runner as open_runner

_HOMES = {
    "Outputs": "keyposs_trt.engine.runner",
    "Runner": "keyposs_trt.engine.runner",
    "build_engine": "keyposs_trt.engine.build",
    "open_runner": "keyposs_trt.engine.runner",
}
__all__ = ["Outputs", "Runner", "build_engine", "open_runner"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'keyposs_trt.engine' has no attribute '{name}'")
