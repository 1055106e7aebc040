"""Bias correction: rounding the weights of an output channel shifts its mean, and the bias can take the shift back.

M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-free quantization through weight equalization and bias correction", ICCV 2019,
section 4.2, with the input means measured instead of derived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.graph.placement import place
from keyposs_trt.graph.qdq import channel_axis, constant_values, network_of, quantised_weights, weight_scales

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray


def bias_corrections(model: onnx.ModelProto, means: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """What to add to the bias of each quantised convolution: minus the mean of what its rounded weights add.

    The border's zeros are not counted, so that the mean is a little too large where maps are small.

    Args:
        model: a float model of this toolkit.
        means: by tensor, [C] the mean of each input channel.

    Returns:
        By operator, [C] float64. Convolutions alone; a transposed one or a Gemm gets none.
    """
    graph = network_of(model).graph
    values, chosen = constant_values(graph), set(place(graph).nodes)
    found = {}
    for node in graph.node:
        if node.name not in chosen or node.op_type != "Conv" or node.input[0] not in means:
            continue
        weights = values[node.input[1]].astype(np.float16)
        axis = channel_axis(node)
        scales = weight_scales(weights, axis, np.float16)
        rounded = quantised_weights(weights, scales, axis) * scales.astype(np.float64).reshape(-1, *[1] * (weights.ndim - 1))
        added = (rounded - weights.astype(np.float64)).reshape(*weights.shape[:2], -1).sum(2)
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        inputs = means[node.input[0]].reshape(groups, 1, weights.shape[1])
        found[node.name] = -(added.reshape(groups, -1, weights.shape[1]) * inputs).sum(2).ravel()
    return found
