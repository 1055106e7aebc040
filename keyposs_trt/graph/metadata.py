"""Reading what a model says of itself, and checking that the graph agrees.

Needs ONNX Runtime only; the onnx package is used by ``spec_of_model``, whose caller has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import ModelError
from keyposs_trt.graph.contract import HEATMAPS, INPUT, PLUGIN_NAME, ModelSpec
from keyposs_trt.graph.onnxruntime_package import load_session, require_onnxruntime

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import onnx
    from onnxruntime import InferenceSession

    # Tensors by name: element type ("uint8", "float32", ...) and shape, None where a dimension is free.
    Signature = Mapping[str, tuple[str, Sequence[int | None]]]

_ORT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """What the model file ``path`` is, checked against its graph.

    Raises:
        ModelError: the file is missing, empty, no ONNX model, not of this toolkit, of another format version, or its graph
            disagrees with its metadata.
        BackendError: ONNX Runtime is not installed, or the model decodes with TensorRT's plugin.
    """
    ort = require_onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = load_session(path, options, ["CPUExecutionProvider"])
    return spec_of_session(session, path)


def spec_of_session(session: InferenceSession, source: object) -> ModelSpec:
    """What the model of an open ONNX Runtime session is, checked against its graph.

    Args:
        session: the session.
        source: the file, for messages.

    Raises:
        ModelError: the metadata are missing, of another version, wrong, or the graph disagrees with them.
    """
    spec = ModelSpec.from_metadata(session.get_modelmeta().custom_metadata_map, source)
    check_signature(spec, _of_arguments(session.get_inputs()), _of_arguments(session.get_outputs()), source)
    return spec


def spec_of_model(model: onnx.ModelProto, source: object) -> ModelSpec:
    """What an ONNX model in memory is, checked against its graph; raises as ``spec_of_session``."""
    spec = ModelSpec.from_metadata({p.key: p.value for p in model.metadata_props}, source)
    constants = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    check_signature(spec, _of_values(inputs), _of_values(model.graph.output), source)
    if any(node.op_type == PLUGIN_NAME for node in model.graph.node) != (spec.decoder == "plugin"):
        raise ModelError(f"By its metadata '{source}' decodes with '{spec.decoder}', and its graph with another; export the model again.")
    return spec


def check_signature(spec: ModelSpec, inputs: Signature, outputs: Signature, source: object) -> None:
    """Compares a graph's inputs and outputs with the contract.

    Raises:
        ModelError: a tensor is missing, too many, of another type or shape.
    """
    n, size, points = None, spec.input_size, spec.points
    expected: dict[str, tuple[tuple[str, ...], list[int | None]]] = {
        "landmarks": (("float32",), [n, points, 2]),
        "scores": (("float32",), [n, points]),
        "covariance": (("float32",), [n, points, 3]),
    }
    if spec.decoder == "none":
        expected = {HEATMAPS: (("float32", "float16"), [n, points, spec.heatmap_size, spec.heatmap_size])}
    for found, promised, verb in ((inputs, {INPUT: (("uint8",), [n, size, size, 3])}, "takes"), (outputs, expected, "gives")):
        if set(found) != set(promised):
            raise ModelError(
                f"'{source}' {verb} {', '.join(found) or 'nothing'}, but by its metadata it {verb} {', '.join(promised)}; "
                "export the model again."
            )
        for name, (kinds, shape) in promised.items():
            kind, actual = found[name]
            if kind not in kinds or list(actual) != shape:
                raise ModelError(
                    f"'{name}' of '{source}' is {kind} {shape_text(actual)}, but by its metadata {' or '.join(kinds)} {shape_text(shape)}; "
                    "export the model again."
                )


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape for messages; N where it is free."""
    return "[" + ", ".join("N" if s is None else str(s) for s in shape) + "]"


def _of_arguments(arguments: Any) -> dict[str, tuple[str, list[int | None]]]:
    """Of ONNX Runtime's NodeArg."""
    return {a.name: (str(_ORT_TYPES.get(a.type, a.type)), [s if isinstance(s, int) else None for s in a.shape]) for a in arguments}


def _of_values(values: Any) -> dict[str, tuple[str, list[int | None]]]:
    """Of onnx.ValueInfoProto."""
    from onnx import helper

    from keyposs_trt.graph.onnx_package import dimensions

    return {v.name: (str(helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)), dimensions(v)) for v in values}
