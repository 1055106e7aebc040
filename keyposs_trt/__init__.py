"""Facial landmarks at the edge: KeyPosS multilateration on ONNX Runtime and TensorRT.

The public names below are loaded when first used, so that ``import keyposs_trt`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyposs_trt.engine import build_engine as build_engine
    from keyposs_trt.errors import KeypossError as KeypossError
    from keyposs_trt.landmarker import Landmarker as Landmarker
    from keyposs_trt.landmarks import Landmarks as Landmarks
    from keyposs_trt.schemes import load_scheme as load_scheme
    from keyposs_trt.video.pipeline import VideoPipeline as VideoPipeline

__version__ = "0.1.0"

_HOMES = {
    "KeypossError": "keyposs_trt.errors",
    "Landmarker": "keyposs_trt.landmarker",
    "Landmarks": "keyposs_trt.landmarks",
    "VideoPipeline": "keyposs_trt.video.pipeline",
    "build_engine": "keyposs_trt.engine",
    "load_scheme": "keyposs_trt.schemes",
}
__all__ = ["KeypossError", "Landmarker", "Landmarks", "VideoPipeline", "__version__", "build_engine", "load_scheme"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'keyposs_trt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
