"""Proof of precision: what a typed network computes in, layer by layer.

In a strongly typed network TensorRT runs every layer in the type the network gives it, so the network is the proof, and it can be had
before the build and without a GPU. (A finished TensorRT-RTX plan shows one fused layer and no types.)
"""

from __future__ import annotations

from typing import Any

from keyposs_trt.errors import BuildError

FP32, FP16, INT8 = "fp32", "fp16", "int8"
PRECISIONS = (FP32, FP16, INT8)

_NAMES = {"FLOAT": FP32, "HALF": FP16}
_WEIGHTED = ("CONVOLUTION", "DECONVOLUTION")


def precision_name(data_type: Any) -> str:
    """A TensorRT data type in our words: fp32, fp16, int8, int64, bool ..."""
    name = str(data_type.name)
    return _NAMES.get(name, name.lower())


def count_layers(network: Any) -> dict[str, dict[str, int]]:
    """Number of layers by type and by the data type of their first output: ``{"CONVOLUTION": {"fp16": 34}, ...}``."""
    counts: dict[str, dict[str, int]] = {}
    for layer in _layers(network):
        by_type = counts.setdefault(layer.type.name, {})
        name = precision_name(layer.get_output(0).dtype)
        by_type[name] = by_type.get(name, 0) + 1
    return {kind: dict(sorted(by_type.items())) for kind, by_type in sorted(counts.items())}


def found_precision(network: Any) -> str:
    """The type the convolutions compute in: a precision, ``int8`` where any of them takes dequantised input, or ``fp16+fp32``.

    Returns an empty string for a network without convolutions.
    """
    dequantised = {layer.get_output(0).name for layer in _layers(network) if layer.type.name == "DEQUANTIZE"}
    found = set()
    for layer in _layers(network):
        if layer.type.name in _WEIGHTED:
            source = layer.get_input(0)
            found.add(INT8 if source.name in dequantised else precision_name(source.dtype))
    return INT8 if INT8 in found else "+".join(sorted(found))


def prove_precision(network: Any, precision: str, model: str) -> str:
    """Makes sure that the convolutions are in the precision asked for.

    Returns:
        the precision found, equal to ``precision``.

    Raises:
        BuildError: they are not.
    """
    found = found_precision(network)
    if found == precision:
        return found
    if not found:
        raise BuildError(f"'{model}' has no convolution, so its precision cannot be proven; give a landmark model.")
    remedy = "give the model as 'keyposs-trt export' wrote it, unquantised and in fp32"
    raise BuildError(f"{precision} was asked for, but the convolutions of '{model}' are {found}; {remedy}. Nothing was written.")


def _layers(network: Any) -> list[Any]:
    return [network.get_layer(i) for i in range(network.num_layers)]
