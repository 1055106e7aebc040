"""Explicit INT8: Q/DQ pairs with given ranges in a model, on top of float16.

The result is the calibration, in one file that every TensorRT from 10.3 on, TensorRT-RTX and ONNX Runtime read: scales stand in the graph,
weights are stored as int8 behind a DequantizeLinear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import BuildError, ModelError
from keyposs_trt.graph.attach import attach_decoder, detach_decoder
from keyposs_trt.graph.metadata import spec_of_model
from keyposs_trt.graph.onnx_package import names_of, opset, require_onnx, tidy
from keyposs_trt.graph.placement import name_nodes, place
from keyposs_trt.graph.precision import to_fp16
from keyposs_trt.graph.saving import expand_weights

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx
    from numpy.typing import NDArray

    from keyposs_trt.graph.placement import Placement

LEVELS = 127  # symmetric: -127 to 127
MIN_OPSET = 19  # from there on Q/DQ nodes take float16
_PREFIX = "int8/"
# ONNX's smallest float16 above zero, and its largest: a scale outside cannot be stored.
_TINY, _HUGE = 2.0**-24, 65504.0


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether a graph has Q/DQ nodes."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def network_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 network of a model of this toolkit as it is calibrated: decoder taken off, opset 19 or later, every node named.

    Raises:
        ModelError: it is no such model, it is quantised already, or its opset cannot be raised.
        BackendError: onnx or onnx-graphsurgeon is not installed.
    """
    require_onnx()
    name = spec_of_model(model, "the model").name
    if is_quantised(model):
        raise ModelError(f"'{name}' is quantised already; give the model it was made from.")
    network = _raised(expand_weights(detach_decoder(model)), name)
    tidy(network)
    name_nodes(network.graph)
    return network


def quantise(
    model: onnx.ModelProto,
    ranges: Mapping[str, float],
    *,
    exclude: Collection[str] = (),
    corrections: Mapping[str, NDArray[np.floating]] | None = None,
    fp16: bool = True,
) -> onnx.ModelProto:
    """A model of this toolkit with its convolutions in INT8: weights per output channel, activations per tensor, symmetric.

    Args:
        model: as exported; its decoder stays as it is, in float32.
        ranges: for each tensor of the placement the magnitude that becomes 127; in a group that shares a scale the largest one counts.
        exclude: names of weighted operators that stay in floating point.
        corrections: what is added to the bias of a quantised operator, by its name: one number an output channel.
        fp16: whether the rest of the network is cast to float16, which is what makes an INT8 engine fast; False leaves float32.

    Returns:
        A new model.

    Raises:
        UsageError: ``exclude`` names what is no weighted operator.
        ModelError: it is no model of this toolkit, or it is quantised already.
        BuildError: a range is missing or makes no sense, or the network cannot be cast to float16.
        BackendError: onnx or onnx-graphsurgeon is not installed.
    """
    spec = spec_of_model(model, "the model")
    network = network_of(model)
    placement = place(network.graph, exclude)
    if corrections:
        _correct(network.graph, {k: v for k, v in corrections.items() if k in placement.nodes})
    scales = _scales(placement, ranges, spec.name, fp16)
    cast = to_fp16(network) if fp16 else network
    _Quantiser(cast, placement, scales).run()
    tidy(cast)
    return attach_decoder(cast, spec)


def group_ranges(placement: Placement, ranges: Mapping[str, float], name: str) -> dict[str, float]:
    """The range of each tensor of a placement, after those that share a scale have taken the largest.

    Raises:
        BuildError: one is missing, or is not a positive number; ``name`` is the model in the message.
    """
    found: dict[str, float] = {}
    for tensor in placement.tensors:
        value = ranges.get(tensor)
        if value is None:
            raise BuildError(f"The calibration has no range for the tensor '{tensor}' of '{name}'; calibrate this model itself.")
        if not 0 < value < np.inf:
            raise BuildError(
                f"The range of the tensor '{tensor}' of '{name}' is {value:g}: it is constant or broken; calibrate on face images."
            )
        root = placement.group[tensor]
        found[root] = max(found.get(root, 0.0), float(value))
    return {tensor: found[placement.group[tensor]] for tensor in placement.tensors}


def weight_scales(weights: NDArray[np.floating], axis: int, dtype: Any = np.float32) -> NDArray[Any]:
    """[C] the scale of each output channel: its largest magnitude over 127, rounded up to a ``dtype``; 1 for a channel of zeros."""
    largest = np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis)).astype(np.float64)
    exact = np.where(largest > 0, largest / LEVELS, 1.0)
    scales = np.maximum(exact, _TINY).astype(dtype)
    return np.where(scales.astype(np.float64) < exact, np.nextafter(scales, dtype(np.inf)), scales)


def quantised_weights(weights: NDArray[np.floating], scales: NDArray[np.floating], axis: int) -> NDArray[np.int8]:
    """The weights in steps of their channel's scale, rounded half to even as TensorRT does, within -127 to 127."""
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    steps = np.rint(weights.astype(np.float64) / scales.astype(np.float64).reshape(shape))
    return np.clip(steps, -LEVELS, LEVELS).astype(np.int8)


def channel_axis(node: onnx.NodeProto) -> int:
    """Which axis of a weighted operator's weights counts its output channels."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 0


def constant_values(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """The constants of a graph by name."""
    from onnx import numpy_helper

    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    return values


def _scales(placement: Placement, ranges: Mapping[str, float], name: str, fp16: bool) -> dict[str, NDArray[Any]]:
    dtype = np.float16 if fp16 else np.float32
    scales = {}
    for tensor, value in group_ranges(placement, ranges, name).items():
        if not _TINY <= value / LEVELS <= _HUGE:
            raise BuildError(
                f"The range {value:g} of the tensor '{tensor}' of '{name}' is beyond what a scale can hold; leave its layers out."
            )
        scales[tensor] = np.asarray(value / LEVELS, dtype)
    return scales


def _raised(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    onnx = require_onnx()
    if opset(model) >= MIN_OPSET:
        return model
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, MIN_OPSET)
    except (version_converter.ConvertError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as e:
        why = (str(e).strip().splitlines() or [type(e).__name__])[0].rstrip(".")
        raise ModelError(
            f"'{name}' is of opset {opset(model)} and cannot be brought to {MIN_OPSET} ({why}); export it with that opset."
        ) from e


def _correct(graph: onnx.GraphProto, corrections: Mapping[str, NDArray[np.floating]]) -> None:
    """Adds to the biases; a Gemm or convolution without one gets one."""
    from onnx import numpy_helper

    values = constant_values(graph)
    for node in graph.node:
        added = corrections.get(node.name)
        if added is None:
            continue
        has = len(node.input) > 2 and bool(node.input[2])
        old = values[node.input[2]] if has else 0.0
        name = f"{_PREFIX}{node.name}/bias"
        graph.initializer.append(numpy_helper.from_array(np.asarray(old + added, np.float32), name))
        if has:
            node.input[2] = name
        else:
            node.input.append(name)
    used = {name for node in graph.node for name in node.input}
    for initializer in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(initializer)


class _Quantiser:
    """Puts the pairs into a graph; ``model`` is changed in place."""

    def __init__(self, model: onnx.ModelProto, placement: Placement, scales: Mapping[str, NDArray[Any]]) -> None:
        self.graph = model.graph
        self.placement = placement
        self.scales = scales
        self.taken = names_of(model.graph)
        self.values = constant_values(model.graph)

    def run(self) -> None:
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), _PREFIX + "zero"))
        nodes = {n.name: n for n in self.graph.node}
        chosen = set(self.placement.nodes)
        before: dict[int, list[onnx.NodeProto]] = {}
        for tensor in self.placement.tensors:
            uses = self.placement.uses[tensor]
            # In float16 a tensor may reach its takers through a Cast and under another name.
            source = nodes[uses[0][0]].input[uses[0][1]]
            pair, result = self._pair(tensor, source)
            first = min((i for i, n in enumerate(self.graph.node) if source in n.output), default=-1)
            before.setdefault(first, []).extend(pair)
            for name, number in uses:
                nodes[name].input[number] = result
        kept: list[onnx.NodeProto] = list(before.get(-1, []))
        weights: dict[str, str] = {}
        for number, node in enumerate(self.graph.node):
            if node.name in chosen:
                kept.extend(self._weights(node, weights))
            kept.append(node)
            kept.extend(before.get(number, []))
        del self.graph.node[:]
        self.graph.node.extend(kept)
        used = {name for node in self.graph.node for name in node.input}
        for initializer in [i for i in self.graph.initializer if i.name not in used]:
            self.graph.initializer.remove(initializer)

    def _pair(self, tensor: str, source: str) -> tuple[list[onnx.NodeProto], str]:
        """QuantizeLinear and DequantizeLinear behind ``source``."""
        from onnx import helper, numpy_helper

        stem = self._free(_PREFIX + tensor)
        scale, quantised, result = f"{stem}/scale", f"{stem}/quantised", f"{stem}/dequantised"
        zero = _PREFIX + "zero"
        self.graph.initializer.append(numpy_helper.from_array(self.scales[tensor], scale))
        return [
            helper.make_node("QuantizeLinear", [source, scale, zero], [quantised], f"{stem}/quantise"),
            helper.make_node("DequantizeLinear", [quantised, scale, zero], [result], f"{stem}/dequantise"),
        ], result

    def _weights(self, node: onnx.NodeProto, done: dict[str, str]) -> list[onnx.NodeProto]:
        """The weights of a node as int8 behind a DequantizeLinear, once for all nodes that share them."""
        from onnx import helper, numpy_helper

        name, axis = node.input[1], channel_axis(node)
        key = f"{name}/{axis}"
        if key in done:
            node.input[1] = done[key]
            return []
        values = self.values[name]
        scales = weight_scales(values, axis, np.float16 if values.dtype == np.float16 else np.float32)
        stem = self._free(_PREFIX + name)
        packed, scale, zero, result = (f"{stem}/{part}" for part in ("int8", "scale", "zero", "dequantised"))
        self.graph.initializer.extend(
            [
                numpy_helper.from_array(quantised_weights(values, scales, axis), packed),
                numpy_helper.from_array(scales, scale),
                numpy_helper.from_array(np.zeros(len(scales), np.int8), zero),
            ]
        )
        node.input[1] = done[key] = result
        return [helper.make_node("DequantizeLinear", [packed, scale, zero], [result], f"{stem}/dequantise", axis=axis)]

    def _free(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name
