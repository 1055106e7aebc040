"""ONNX graphs: the contract, and the tools that make a network keep it.

Names are loaded when first used. ``read_spec`` and ``spec_of_session`` need ONNX Runtime only; the tools that change a
graph need the onnx package and raise ``BackendError`` without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyposs_trt.graph.attach import attach_decoder as attach_decoder
    from keyposs_trt.graph.attach import change_decoder as change_decoder
    from keyposs_trt.graph.attach import detach_decoder as detach_decoder
    from keyposs_trt.graph.contract import ModelSpec as ModelSpec
    from keyposs_trt.graph.grafting import graft as graft
    from keyposs_trt.graph.metadata import read_spec as read_spec
    from keyposs_trt.graph.metadata import spec_of_model as spec_of_model
    from keyposs_trt.graph.metadata import spec_of_session as spec_of_session
    from keyposs_trt.graph.precision import to_fp16 as to_fp16
    from keyposs_trt.graph.preprocessing import attach_preprocessing as attach_preprocessing
    from keyposs_trt.graph.qdq import is_quantised as is_quantised
    from keyposs_trt.graph.qdq import quantise as quantise
    from keyposs_trt.graph.rounding import rounded as rounded
    from keyposs_trt.graph.saving import expand_weights as expand_weights
    from keyposs_trt.graph.saving import save_model as save_model
    from keyposs_trt.graph.saving import store_weights_fp16 as store_weights_fp16

_HOMES = {
    "ModelSpec": "contract",
    "attach_decoder": "attach",
    "attach_preprocessing": "preprocessing",
    "change_decoder": "attach",
    "detach_decoder": "attach",
    "expand_weights": "saving",
    "graft": "grafting",
    "is_quantised": "qdq",
    "quantise": "qdq",
    "read_spec": "metadata",
    "rounded": "rounding",
    "save_model": "saving",
    "spec_of_model": "metadata",
    "spec_of_session": "metadata",
    "store_weights_fp16": "saving",
    "to_fp16": "precision",
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"keyposs_trt.graph.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'keyposs_trt.graph' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(_HOMES)
