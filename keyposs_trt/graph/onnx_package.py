"""The onnx package where it is installed, and what several modules do to its graphs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

PREPROCESS = "preprocess/"
DECODE = "decode/"
FLOAT, UINT8, FLOAT16 = 1, 2, 10  # onnx.TensorProto.DataType


def require_onnx() -> Any:
    """The onnx module.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return import_module("onnx")
    except ImportError:
        raise BackendError("Changing a model graph needs the onnx package; install it with: pip install onnx") from None


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy to work on, with the functions some exporters leave in the graph inlined."""
    onnx = require_onnx()
    if model.functions:
        from onnx import inliner

        return inliner.inline_local_functions(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def dimensions(value: onnx.ValueInfoProto) -> list[int | None]:
    """Shape of a tensor; None where a dimension is free or unknown."""
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def tensor(name: str, element: int, shape: Iterable[int | str]) -> onnx.ValueInfoProto:
    """A typed graph input or output; strings are free dimensions."""
    return require_onnx().helper.make_tensor_value_info(name, element, list(shape))


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Gives a tensor another name wherever nodes, constants, inputs and outputs of the graph speak of it."""
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    for values in (graph.input, graph.output, graph.initializer):
        for value in values:
            if value.name == old:
                value.name = new


def names_of(graph: onnx.GraphProto) -> set[str]:
    """Names of all tensors of the graph."""
    names = {n for node in graph.node for n in (*node.input, *node.output)}
    return names | {v.name for values in (graph.input, graph.output, graph.initializer) for v in values}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of all tensors whose type can be told, by name."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    values = {v.name: v.type.tensor_type.elem_type for vs in (graph.input, graph.output, graph.value_info) for v in vs}
    return {**values, **{i.name: i.data_type for i in graph.initializer}}


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators the model uses; 0 if it uses none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def tidy(model: onnx.ModelProto) -> None:
    """Takes out what no runtime reads: inferred shapes (stale after a change) and exporters' notes, which name source files."""
    graph = model.graph
    del graph.value_info[:]
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        item.ClearField("doc_string")
    for item in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        if "metadata_props" in item.DESCRIPTOR.fields_by_name:  # not in the oldest onnx we support
            item.ClearField("metadata_props")
