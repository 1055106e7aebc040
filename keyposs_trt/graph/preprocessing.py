"""uint8 crops in, normalisation inside the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.graph.contract import INPUT
from keyposs_trt.graph.metadata import shape_text
from keyposs_trt.graph.onnx_package import (
    FLOAT,
    FLOAT16,
    PREPROCESS,
    UINT8,
    copy_of,
    dimensions,
    names_of,
    rename,
    require_onnx,
    tensor,
    tidy,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray

CHANNELS = ("rgb", "bgr")
# Of R, G, B in values 0..255, as the uint8 input has them.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def attach_preprocessing(
    model: onnx.ModelProto, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD, channels: str = "rgb"
) -> onnx.ModelProto:
    """The same network fed with ``image`` uint8 [N, S, S, 3] RGB instead of normalised floats.

    Args:
        model: a network with one input [N, 3, S, S], float32 or float16, S fixed.
        mean, std: in values 0..255, in the order of the network's channels: the network gets (image - mean) / std.
        channels: ``rgb`` or ``bgr``, the order the network was trained with; the image is RGB.

    Returns:
        A new model with free N; the normalisation is float32.

    Raises:
        ModelError: the network's input is of another kind.
        UsageError: mean, std or channels make no sense.
        BackendError: onnx is not installed.
    """
    onnx = require_onnx()
    centre, spread = check_normalisation(mean, std, channels)
    model = copy_of(model)
    tidy(model)
    graph = model.graph
    old, size = _float_input(graph)
    inner = old.name
    if inner == INPUT:
        inner = PREPROCESS + "normalised"
        rename(graph, INPUT, inner)
    elif INPUT in names_of(graph):
        rename(graph, INPUT, "network/" + INPUT)

    half = old.type.tensor_type.elem_type == FLOAT16
    constants = {"scale": 1 / spread, "shift": -centre / spread}
    for name, value in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32).reshape(1, 3, 1, 1), PREPROCESS + name))
    swap = []
    if channels == "bgr":
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 1, 0]), PREPROCESS + "bgr"))
        swap = [("Gather", "swapped", [PREPROCESS + "nchw", PREPROCESS + "bgr"], {"axis": 1})]
    steps = [
        ("Cast", "float", [INPUT], {"to": FLOAT}),
        ("Transpose", "nchw", [PREPROCESS + "float"], {"perm": [0, 3, 1, 2]}),
        *swap,
        ("Mul", "scaled", [PREPROCESS + ("swapped" if swap else "nchw"), PREPROCESS + "scale"], {}),
        ("Add", "shifted", [PREPROCESS + "scaled", PREPROCESS + "shift"], {}),
        *([("Cast", "half", [PREPROCESS + "shifted"], {"to": FLOAT16})] if half else []),
    ]
    nodes = [onnx.helper.make_node(op, inputs, [PREPROCESS + name], PREPROCESS + name, **kw) for op, name, inputs, kw in steps]
    nodes[-1].output[0] = inner
    network = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *network])
    graph.input.remove(old)
    graph.input.append(tensor(INPUT, UINT8, ["N", size, size, 3]))
    for output in graph.output:
        if output.type.tensor_type.shape.dim:
            output.type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def check_normalisation(
    mean: Sequence[float], std: Sequence[float], channels: str = "rgb"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation as arrays [3].

    Raises:
        UsageError: they, or the order of the channels, make no sense.
    """
    centre, spread = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    if centre.shape != (3,) or spread.shape != (3,) or not np.isfinite(centre).all() or not ((spread > 0) & np.isfinite(spread)).all():
        raise UsageError(f"Normalisation needs three means and three positive standard deviations, not {mean} and {std}.")
    if channels not in CHANNELS:
        raise UsageError(f"The order of the channels must be one of {', '.join(CHANNELS)}, not {channels!r}.")
    return centre, spread


def _float_input(graph: onnx.GraphProto) -> tuple[onnx.ValueInfoProto, int]:
    """The network's only input and its side S."""
    constants = {i.name for i in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) == 1 and inputs[0].type.tensor_type.elem_type in (FLOAT, FLOAT16):
        shape = dimensions(inputs[0])
        if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] and shape[2]:
            return inputs[0], shape[2]
    found = ", ".join(f"{i.name} {shape_text(dimensions(i))}" for i in inputs)
    raise ModelError(f"Preprocessing goes in front of one float input [N, 3, S, S]; this graph has {found or 'none'}: export it so.")
