"""What a finished engine computes in, as TensorRT's engine inspector tells it: possible only where a GPU can open the engine."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.precision import FP16, FP32, INT8
from keyposs_trt.errors import BuildError

if TYPE_CHECKING:
    from keyposs_trt.engine.versions import Backend

_TYPES = ((INT8, re.compile(r"int8", re.I)), (FP16, re.compile(r"fp16|half", re.I)), (FP32, re.compile(r"fp32|float", re.I)))


def inspect_engine(backend: Backend, plan: bytes, log: Any, host_code: bool = False) -> dict[str, int] | None:
    """The convolutions of a plan by the type of their input: ``{"int8": 44, "fp16": 2}``.

    Args:
        backend: full TensorRT; an RTX plan is one fused layer until it runs.
        plan: built with detailed profiling verbosity.
        log: takes TensorRT's words.
        host_code: whether the plan holds code of its own, such as an embedded plugin.

    Returns:
        None where the engine cannot be opened here, or does not tell (TensorRT leaves types out of layers with free dimensions).
    """
    runtime = backend.trt.Runtime(log.logger)
    if runtime is None:
        return None
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    return convolution_types(inspector.get_engine_information(backend.trt.LayerInformationFormat.JSON))


def convolution_types(text: str) -> dict[str, int] | None:
    """The inspector's JSON, counted; None where it names no type of any convolution."""
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return None
    found: dict[str, int] = {}
    for layer in layers:
        if not isinstance(layer, dict) or "conv" not in f"{layer.get('LayerType')} {layer.get('ParamType')}".lower():
            continue
        inputs = layer.get("Inputs") or [{}]
        words = str(inputs[0].get("Format/Datatype", ""))
        kind = next((name for name, pattern in _TYPES if pattern.search(words)), None)
        if kind is not None:
            found[kind] = found.get(kind, 0) + 1
    return found or None


def prove_engine(types: dict[str, int] | None, precision: str, model: str) -> None:
    """Makes sure that a finished engine computes in the precision asked for, as far as it tells.

    Stem and head of an INT8 model are in fp16, and TensorRT may run a small layer in fp32; so what must be there is one convolution at
    least, and nothing lower than was asked for.

    Raises:
        BuildError: it does not.
    """
    if types is None:
        return
    lower = {FP32: (FP16, INT8), FP16: (INT8,), INT8: ()}[precision]
    wrong = next((kind for kind in lower if kind in types), None)
    if wrong is not None or precision not in types:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(types.items()))
        remedy = "build it again, and report this with --debug"
        raise BuildError(f"{precision} was asked for, but the finished engine of '{model}' has convolutions in {told}; {remedy}.")
