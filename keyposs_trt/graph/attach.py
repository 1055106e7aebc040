"""From a network that ends in heatmaps to a model that keeps the graph contract, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keyposs_trt.decode.onnx_fragment import MIN_OPSET, wls_fragment
from keyposs_trt.errors import ModelError
from keyposs_trt.graph.contract import (
    HEATMAPS,
    OUTPUTS,
    PLUGIN_DOMAIN,
    PLUGIN_NAME,
    PLUGIN_NAMESPACE,
    PLUGIN_VERSION,
    ModelSpec,
    check_decoder,
)
from keyposs_trt.graph.metadata import shape_text, spec_of_model
from keyposs_trt.graph.onnx_package import (
    DECODE,
    FLOAT,
    FLOAT16,
    UINT8,
    copy_of,
    dimensions,
    element_types,
    names_of,
    opset,
    rename,
    require_onnx,
    tensor,
    tidy,
)
from keyposs_trt.graph.surgery import cut_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx


def attach_decoder(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """Ends a heatmap network in the decoder of ``spec`` and writes the metadata.

    The decoder ``wls`` is standard operators, float32 whatever the network is; ``plugin`` is one node for TensorRT's plugin, which takes
    the maps as they are. All names of either start with ``decode/``. Preprocessing may be attached before or after. With
    ``decoder = none`` the graph keeps its heatmaps and gets the metadata only. A graph with Q/DQ nodes is said to be int8.

    Args:
        model: a graph, opset 17 or later, whose only output is ``heatmaps`` [N, L, H, H], float32 or float16.
        spec: what the model is.

    Returns:
        A new model with the outputs of the contract and free N.

    Raises:
        ModelError: the graph is of another kind or disagrees with ``spec``.
        BackendError: onnx is not installed.
    """
    onnx = require_onnx()
    model = copy_of(model)
    tidy(model)
    graph = model.graph
    _check(model, spec)
    if any(node.op_type == "DequantizeLinear" for node in graph.node):
        spec = replace(spec, precision="int8")
    element = graph.output[0].type.tensor_type.elem_type
    del graph.output[:]
    if spec.decoder == "none":
        graph.output.append(tensor(HEATMAPS, element, ["N", spec.points, spec.heatmap_size, spec.heatmap_size]))
    else:
        for name in names_of(graph) & set(OUTPUTS):
            rename(graph, name, "network/" + name)
        parameters = spec.solver_parameters()
        (_add_plugin if spec.decoder == "plugin" else _add_operators)(model, spec, parameters)
        if spec.covariance_scale != 1:
            _scale_covariance(model, spec.covariance_scale)
        for name, tail in zip(OUTPUTS, ([2], [], [3]), strict=True):
            graph.output.append(tensor(name, FLOAT, ["N", spec.points, *tail]))
        spec = replace(spec, decoder_parameters={k: v for k, v in parameters.items() if k != "sigma"})
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.helper.set_model_props(model, {**{p.key: p.value for p in model.metadata_props}, **spec.to_metadata()})
    return model


def detach_decoder(model: onnx.ModelProto) -> onnx.ModelProto:
    """The heatmap network of a model of this toolkit: the same file as if it had been made with ``decoder = none``.

    Its preprocessing, weights and metadata stay. A decoder can be attached again, of another kind or with other parameters, also where the
    old one was made by an earlier version.

    Raises:
        ModelError: the model has no metadata of this toolkit, or no tensor of heatmaps.
        BackendError: onnx or onnx-graphsurgeon is not installed.
    """
    onnx = require_onnx()
    spec = ModelSpec.from_metadata({p.key: p.value for p in model.metadata_props}, "the model")
    if spec.decoder == "none":
        return copy_of(model)
    element = element_types(model).get(HEATMAPS)
    if element not in (FLOAT, FLOAT16):
        raise ModelError(f"The graph of '{spec.name}' has no tensor '{HEATMAPS}' in front of its decoder; export the model again.")
    network = cut_at(model, HEATMAPS, element, ["N", spec.points, spec.heatmap_size, spec.heatmap_size])
    metadata = {p.key: p.value for p in model.metadata_props} | replace(spec, decoder="none").to_metadata()
    onnx.helper.set_model_props(network, metadata)
    return network


def change_decoder(model: onnx.ModelProto, decoder: str, parameters: Mapping[str, float] | None = None) -> onnx.ModelProto:
    """A model of this toolkit with another decoder, or with the same one and other parameters.

    Args:
        model: any model that keeps the graph contract.
        decoder: ``wls``, ``plugin`` or ``none``.
        parameters: radius and prior; those left out are as in the model.

    Raises:
        UsageError: there is no such decoder or parameter, or a value makes no sense.
        ModelError: the model is none of this toolkit, or its graph disagrees with its metadata.
        BackendError: onnx or onnx-graphsurgeon is not installed.
    """
    network = detach_decoder(model)
    spec = spec_of_model(network, "the model")
    wanted = {**spec.decoder_parameters, **(parameters or {})}
    check_decoder(decoder, spec.sigma, wanted)
    return attach_decoder(network, replace(spec, decoder=decoder, decoder_parameters=wanted))


def _add_operators(model: onnx.ModelProto, spec: ModelSpec, parameters: dict[str, Any]) -> None:
    fragment = wls_fragment(
        HEATMAPS, size=spec.heatmap_size, stride=spec.stride, grid=spec.grid, prefix=DECODE, opset=opset(model), **parameters
    )
    model.graph.node.extend(fragment.nodes)
    model.graph.initializer.extend(fragment.initializers)


def _add_plugin(model: onnx.ModelProto, spec: ModelSpec, parameters: dict[str, Any]) -> None:
    """The attributes become the plugin's fields, by name: float to float32, int to int32, string to char."""
    from onnx import helper

    fields = {**parameters, "stride": float(spec.stride), "grid": spec.grid}
    version = {"plugin_version": PLUGIN_VERSION, "plugin_namespace": PLUGIN_NAMESPACE}
    name = DECODE + "multilateration"
    model.graph.node.append(helper.make_node(PLUGIN_NAME, [HEATMAPS], OUTPUTS, name, domain=PLUGIN_DOMAIN, **version, **fields))
    if PLUGIN_DOMAIN not in {o.domain for o in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(PLUGIN_DOMAIN, 1))


def _scale_covariance(model: onnx.ModelProto, scale: float) -> None:
    """Multiplies the covariance that the decoder just added gives."""
    import numpy as np
    from onnx import helper, numpy_helper

    covariance, fitted, factor = OUTPUTS[2], DECODE + "fitted_covariance", DECODE + "covariance_scale"
    last = next(n for n in reversed(model.graph.node) if covariance in n.output)
    last.output[list(last.output).index(covariance)] = fitted
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), factor))
    model.graph.node.append(helper.make_node("Mul", [fitted, factor], [covariance], DECODE + "scale_covariance"))


def _check(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Refuses graphs the decoder of ``spec`` does not fit."""
    graph = model.graph
    if any(n.name.startswith(DECODE) for n in graph.node):
        raise ModelError(f"The graph of '{spec.name}' has a decoder already; take it off with detach_decoder first.")
    if [o.name for o in graph.output] != [HEATMAPS]:
        found = ", ".join(o.name for o in graph.output)
        raise ModelError(f"A decoder goes behind one output named '{HEATMAPS}'; the graph of '{spec.name}' has {found}: rename it.")
    if len(graph.input) != 1 or not graph.input[0].type.tensor_type.shape.dim:
        raise ModelError(f"The graph of '{spec.name}' must have one input, a batch of crops; it has {len(graph.input)}: export it again.")
    if opset(model) < MIN_OPSET:
        raise ModelError(f"The graph of '{spec.name}' is of opset {opset(model)}; export it with opset {MIN_OPSET} or later.")
    if graph.output[0].type.tensor_type.elem_type not in (FLOAT, FLOAT16):
        raise ModelError(f"The heatmaps of '{spec.name}' must be float32 or float16; cast the head's output.")
    promised = "its spec says {}; correct the spec or the export."
    found, expected = dimensions(graph.output[0]), [None, spec.points, spec.heatmap_size, spec.heatmap_size]
    if len(found) != 4 or any(f not in (None, e) for f, e in zip(found[1:], expected[1:], strict=True)):
        raise ModelError(f"The heatmaps of '{spec.name}' are {shape_text(found)}, " + promised.format(shape_text(expected)))
    crop = dimensions(graph.input[0])
    sides = crop[1:3] if graph.input[0].type.tensor_type.elem_type == UINT8 else crop[2:]
    if any(side not in (None, spec.input_size) for side in sides):
        raise ModelError(f"The crops of '{spec.name}' are {shape_text(crop)}, " + promised.format(f"{spec.input_size} pixels"))
