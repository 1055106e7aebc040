"""Graphs computed on the CPU as an engine rounds.

ONNX Runtime has no float16 kernels for x86 processors. It computes an FP16 graph in float32 and drops the rounding between two layers, so
that the graph drifts less there than in an engine. Here every rounding becomes an operator of its own, which no optimiser takes away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.graph.onnx_package import FLOAT, FLOAT16, copy_of, element_types, require_onnx

if TYPE_CHECKING:
    import onnx

_EXACT, _HALF = "/exact", "/half"


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in float32, where every tensor that was float16 is rounded to float16 by two Casts.

    What a DequantizeLinear gives is not rounded: an engine multiplies the whole numbers themselves and scales the sum in float32. An engine
    that computes a convolution and the addition behind it in one kernel rounds once less than the graph says, so that a twin drifts as much
    as an engine or a little more. Tensors keep their names.

    Raises:
        BackendError: onnx is not installed.
    """
    onnx = require_onnx()
    model = copy_of(model)
    graph, types = model.graph, element_types(model)
    for constant in graph.initializer:
        _widen(constant)
    for value in graph.output:
        if value.type.tensor_type.elem_type == FLOAT16:
            value.type.tensor_type.elem_type = FLOAT
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == FLOAT16:
                attribute.i = FLOAT
            elif attribute.type == onnx.AttributeProto.TENSOR:
                _widen(attribute.t)
        nodes.append(node)
        for i, name in enumerate(node.output):
            if types.get(name) == FLOAT16 and node.op_type != "DequantizeLinear":
                node.output[i] = name + _EXACT
                nodes.append(onnx.helper.make_node("Cast", [name + _EXACT], [name + _HALF], name + _HALF, to=FLOAT16))
                nodes.append(onnx.helper.make_node("Cast", [name + _HALF], [name], name + "/rounded", to=FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return model


def _widen(tensor: onnx.TensorProto) -> None:
    """A float16 constant becomes float32, in place."""
    from onnx import numpy_helper

    if tensor.data_type == FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
