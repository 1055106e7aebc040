"""Freeing the batch of a graph that was exported for one image.

Exporters write the batch they saw into constant shapes. Where such a constant begins with it, the batch of the data goes there instead;
whether that was right, the caller finds out by running a larger batch.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.graph.onnx_package import copy_of, names_of

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_PREFIX = "network/batch/"


def free_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The same model, opset 17 or later, without ``batch`` in the constant shapes of Reshape and Resize."""
    model = copy_of(model)
    graph = model.graph
    constants = _integers(graph)
    names = (f"{_PREFIX}{i}" for i in count())
    fresh = (name for name in names if not any(taken.startswith(name) for taken in names_of(model.graph)))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        slot = {"Reshape": 1, "Resize": 3}.get(node.op_type, 0)
        shape = constants.get(node.input[slot]) if 0 < slot < len(node.input) else None
        if shape is not None and shape.size > 1 and shape[0] == batch:
            nodes += _resize(graph, node, shape, next(fresh)) if node.op_type == "Resize" else _reshape(graph, node, shape, next(fresh))
        nodes.append(_copy(node))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _reshape(graph: onnx.GraphProto, node: onnx.NodeProto, shape: NDArray[Any], name: str) -> list[onnx.NodeProto]:
    """Lets the batch follow from the number of elements or, where another dimension does, be that of the data."""
    from onnx import numpy_helper

    first = 0 if -1 in shape[1:] else -1
    graph.initializer.append(numpy_helper.from_array(np.array([first, *shape[1:]], np.int64), name))
    node.input[1] = name
    return []


def _resize(graph: onnx.GraphProto, node: onnx.NodeProto, sizes: NDArray[Any], name: str) -> list[onnx.NodeProto]:
    """Takes the batch from the data; gives the nodes that do it."""
    from onnx import helper, numpy_helper

    graph.initializer.append(numpy_helper.from_array(sizes[1:], name + "/rest"))
    first = helper.make_node("Shape", [node.input[0]], [name + "/n"], name + "/n", start=0, end=1)
    whole = helper.make_node("Concat", [name + "/n", name + "/rest"], [name + "/sizes"], name + "/sizes", axis=0)
    node.input[3] = name + "/sizes"
    return [first, whole]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def _integers(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """The int64 constants of a graph by name."""
    from onnx import numpy_helper

    found = {i.name: i for i in graph.initializer}
    written = [(n.output[0], a) for n in graph.node if n.op_type == "Constant" for a in n.attribute]
    found |= {name: a.t for name, a in written if a.name == "value"}
    lists = {name: np.array(a.ints, np.int64) for name, a in written if a.name == "value_ints"}
    return {name: numpy_helper.to_array(t) for name, t in found.items() if t.data_type == t.INT64} | lists
