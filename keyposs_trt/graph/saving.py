"""Model files: written whole, readable by every runtime we support, small where asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import BuildError
from keyposs_trt.files import atomic_path
from keyposs_trt.graph.onnx_package import DECODE, FLOAT, FLOAT16, PREPROCESS, copy_of, require_onnx

if TYPE_CHECKING:
    import os

    import onnx
    from numpy.typing import NDArray

FP16_MAX = 65504.0
_EXPAND = "expand/"
_SMALL = 256  # elements: below, the Cast weighs as much as what it saves


def save_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Checks a model and writes it as one file, whole or not at all.

    The IR version is lowered to what the opset needs, so that older runtimes read the file.

    Raises:
        BuildError: the graph is not valid ONNX.
        OutputError: the file cannot be written.
        BackendError: onnx is not installed.
    """
    onnx = require_onnx()
    model = copy_of(model)
    model.ir_version = min(model.ir_version, max(8, onnx.helper.find_min_ir_version_for(model.opset_import, True)))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise BuildError(f"The graph for '{path}' is not valid ONNX ({_first_line(e)}); export the network again.") from e
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def store_weights_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with its network's weights stored in half the bytes.

    Float32 constants of two or more axes become float16 ones behind a Cast, which runtimes fold when they load the file;
    biases, small tensors, preprocessing and decoder stay as they are. ``expand_weights`` turns back.

    Raises:
        BuildError: a weight is too large for float16.
        BackendError: onnx is not installed.
    """
    onnx = require_onnx()
    model = copy_of(model)
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        large = len(weight.dims) >= 2 and np.prod(weight.dims) >= _SMALL
        if weight.data_type != FLOAT or not large or weight.name.startswith((PREPROCESS, DECODE)):
            continue
        name = weight.name
        half = fp16_values(onnx.numpy_helper.to_array(weight), name)
        weight.CopyFrom(onnx.numpy_helper.from_array(half, _EXPAND + name))
        casts.append(onnx.helper.make_node("Cast", [_EXPAND + name], [name], _EXPAND + name, to=FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return model


def expand_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with plain float32 constants wherever a float16 constant was cast to float32; for engine builders.

    Raises:
        BackendError: onnx is not installed.
    """
    onnx = require_onnx()
    model = copy_of(model)
    graph = model.graph
    halves = {i.name: i for i in graph.initializer if i.data_type == FLOAT16}
    casts = [n for n in graph.node if n.op_type == "Cast" and n.input[0] in halves and n.attribute[0].i == FLOAT]
    for cast in casts:
        value = onnx.numpy_helper.to_array(halves[cast.input[0]]).astype(np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(value, cast.output[0]))
        graph.node.remove(cast)
    used = {name for node in graph.node for name in node.input}
    for name in {c.input[0] for c in casts} - used:
        graph.initializer.remove(halves[name])
    return model


def fp16_values(values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """A constant in float16.

    A single number outside the range stands for "no bound" (Clip, masks) and saturates.

    Raises:
        BuildError: a weight is not finite or too large.
    """
    if values.size == 1 and not np.isnan(values).any():
        values = np.clip(values, -FP16_MAX, FP16_MAX)
    largest = np.abs(values).max(initial=0)
    if not largest <= FP16_MAX:
        raise BuildError(f"The weight '{name}' reaches {largest:g}, beyond float16's {FP16_MAX:g}; keep this model in FP32.")
    return values.astype(np.float16)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
