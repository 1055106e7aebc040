"""From a network that ends in heatmaps to a model that keeps the graph contract."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from keyposs_trt.decode.onnx_fragment import MIN_OPSET, wls_fragment
from keyposs_trt.errors import ModelError
from keyposs_trt.graph.contract import HEATMAPS, OUTPUTS, ModelSpec
from keyposs_trt.graph.metadata import shape_text
from keyposs_trt.graph.onnx_package import (
    DECODE,
    FLOAT,
    FLOAT16,
    UINT8,
    copy_of,
    dimensions,
    names_of,
    opset,
    rename,
    require_onnx,
    tensor,
    tidy,
)

if TYPE_CHECKING:
    import onnx


def attach_decoder(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """Ends a heatmap network in the decoder of ``spec`` and writes the metadata.

    The decoder is float32 whatever the network is, and all its names start with ``decode/``. Preprocessing may be attached
    before or after. With ``decoder = none`` the graph keeps its heatmaps and gets the metadata only.

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
    element = graph.output[0].type.tensor_type.elem_type
    del graph.output[:]
    if spec.decoder == "none":
        graph.output.append(tensor(HEATMAPS, element, ["N", spec.points, spec.heatmap_size, spec.heatmap_size]))
    else:
        for name in names_of(graph) & set(OUTPUTS):
            rename(graph, name, "network/" + name)
        parameters = spec.solver_parameters()
        fragment = wls_fragment(HEATMAPS, size=spec.heatmap_size, stride=spec.stride, grid=spec.grid, prefix=DECODE, **parameters)
        graph.node.extend(fragment.nodes)
        graph.initializer.extend(fragment.initializers)
        for name, tail in zip(OUTPUTS, ([2], [], [3]), strict=True):
            graph.output.append(tensor(name, FLOAT, ["N", spec.points, *tail]))
        spec = replace(spec, decoder_parameters={k: v for k, v in parameters.items() if k != "sigma"})
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.helper.set_model_props(model, {**{p.key: p.value for p in model.metadata_props}, **spec.to_metadata()})
    return model


def _check(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Refuses graphs the decoder of ``spec`` does not fit."""
    graph = model.graph
    if any(n.name.startswith(DECODE) for n in graph.node):
        raise ModelError(f"The graph of '{spec.name}' has a decoder already; attach one to the graph with decoder 'none'.")
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
