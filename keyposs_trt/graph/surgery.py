"""Cutting graphs apart with onnx-graphsurgeon, which follows tensors into subgraphs and leaves nothing behind that is not used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError, ModelError
from keyposs_trt.graph.onnx_package import copy_of, require_onnx, tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx


def require_graphsurgeon() -> Any:
    """The onnx_graphsurgeon module.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return import_module("onnx_graphsurgeon")
    except ImportError:
        raise BackendError("Cutting a model graph needs onnx-graphsurgeon; install it with: pip install onnx-graphsurgeon") from None


def cut_at(
    model: onnx.ModelProto, output: str, element: int, shape: Sequence[int | str], rename: Callable[[str], str] | None = None
) -> onnx.ModelProto:
    """The part of a model that computes one tensor, which becomes its only output; inputs it does not need are dropped.

    Args:
        model: any model.
        output: the tensor, computed by a node of the main graph.
        element: its element type.
        shape: its shape, strings where it is free.
        rename: gives each tensor and each node of the main graph its name in the result.

    Raises:
        ModelError: the graph cannot be read, or no node computes the tensor.
        BackendError: onnx or onnx-graphsurgeon is not installed.
    """
    onnx = require_onnx()
    gs = require_graphsurgeon()
    if not any(output in node.output for node in model.graph.node):
        raise ModelError(f"No node of the graph computes a tensor '{output}'; name one that is there.")
    copy = copy_of(model)
    tidy(copy)
    with gs.logger.G_LOGGER.suppress():
        try:
            graph = gs.import_onnx(copy)
        except gs.util.exception.OnnxGraphSurgeonException as e:
            raise ModelError(f"The graph cannot be cut at '{output}' ({e}); export the model again.") from e
        tensors = graph.tensors()
        end = tensors[output]
        end.dtype, end.shape = element, list(shape)
        graph.outputs = [end]
        graph.cleanup(remove_unused_graph_inputs=True).toposort()
        if rename is not None:
            for item in (*tensors.values(), *graph.nodes):
                item.name = rename(item.name)
        part = gs.export_onnx(graph)
    used = {node.domain or "" for g in (graph, *graph.subgraphs(recursive=True)) for node in g.nodes} | {"", "ai.onnx"}
    for entry in [o for o in part.opset_import if o.domain not in used]:
        part.opset_import.remove(entry)
    onnx.helper.set_model_props(part, {p.key: p.value for p in model.metadata_props})
    del part.graph.value_info[:]
    return part
