"""Multiply-adds of a network's weighted operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.graph.onnx_package import dimensions, require_onnx
from keyposs_trt.graph.placement import weighted_nodes

if TYPE_CHECKING:
    import onnx


def multiply_adds(graph: onnx.GraphProto) -> dict[str, int]:
    """By operator, the multiply-adds for one crop; operators whose shapes cannot be told are left out.

    A convolution multiplies each weight once for each place of its output, a transposed one for each place of its input, a Gemm once a row.
    """
    onnx = require_onnx()
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: dimensions(v) for values in (inferred.input, inferred.value_info, inferred.output) for v in values}
    weights = {i.name: i.dims for i in graph.initializer}
    found = {}
    for node in weighted_nodes(graph):
        places = shapes.get(node.input[0] if node.op_type == "ConvTranspose" else node.output[0], [])[2:]
        if node.input[1] in weights and None not in places and (places or node.op_type == "Gemm"):
            found[node.name] = int(np.prod(weights[node.input[1]])) * int(np.prod([p or 1 for p in places]))
    return found
