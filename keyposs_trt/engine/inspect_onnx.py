"""Explains an ONNX file: contract, tensors, operators, precision, and whether it runs here."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine.onnx_file import load_graph
from keyposs_trt.engine.precision import FP16, FP32, INT8
from keyposs_trt.errors import BackendError, KeypossError
from keyposs_trt.graph.contract import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

_FLOATS = {"float": FP32, "float16": FP16}


def explain_onnx(path: Path) -> dict[str, Any]:
    """What an ONNX file holds; operators and precision need the onnx package and are left out without it.

    Raises:
        ModelError: it is no ONNX model.
    """
    try:
        graph = load_graph(path)
    except BackendError as e:
        return {"note": str(e), **_through_runtime(path)}
    initialisers = graph.graph.initializer
    spec, problem = _spec(graph, path)
    return {
        "spec": spec,
        "inputs": [_tensor(i) for i in graph.graph.input],
        "outputs": [_tensor(o) for o in graph.graph.output],
        "opset": {o.domain or "ai.onnx": o.version for o in graph.opset_import},
        "producer": f"{graph.producer_name} {graph.producer_version}".strip() or None,
        "parameters": sum(int(np.prod(i.dims)) for i in initialisers),
        "stored_as": dict(Counter(_type_name(i.data_type) for i in initialisers)),
        "operators": dict(sorted(Counter(n.op_type for n in graph.graph.node).items())),
        "precision": _precision(graph),
        **_runs(path, problem),
    }


def _spec(graph: onnx.ModelProto, path: Path) -> tuple[dict[str, Any] | None, str]:
    try:
        return asdict(ModelSpec.from_metadata({p.key: p.value for p in graph.metadata_props}, path)), ""
    except KeypossError as e:
        return None, str(e)


def _runs(path: Path, problem: str) -> dict[str, Any]:
    """Runs one black crop on the CPU: the shortest honest answer."""
    from keyposs_trt.engine.runner import open_runner

    if problem:
        return {"runs_here": False, "reason": problem}
    try:
        with open_runner(path, "onnxruntime", threads=1) as runner:
            size = runner.spec.input_size
            runner(np.zeros((1, size, size, 3), np.uint8))
    except KeypossError as e:
        return {"runs_here": False, "reason": str(e)}
    return {"runs_here": True}


def _through_runtime(path: Path) -> dict[str, Any]:
    """What ONNX Runtime alone can say."""
    from keyposs_trt.graph import read_spec

    try:
        spec = read_spec(path)
    except KeypossError as e:
        return {"spec": None, "runs_here": False, "reason": str(e)}
    return {"spec": asdict(spec), **_runs(path, "")}


def _tensor(info: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = info.type.tensor_type
    shape = [d.dim_param or (d.dim_value if d.HasField("dim_value") else "?") for d in tensor.shape.dim]
    return {"name": info.name, "type": _type_name(tensor.elem_type), "shape": shape}


def _type_name(elem_type: int) -> str:
    from onnx import TensorProto

    name = TensorProto.DataType.Name(elem_type).lower()  # pyright: ignore[reportArgumentType]
    return _FLOATS.get(name, name)


def _precision(graph: onnx.ModelProto) -> str:
    """The type the convolutions compute in, ``int8`` where any of them takes dequantised input; empty without convolutions.

    Weights stored in fp16 and cast to fp32 compute in fp32: so types are inferred, not read off the initialisers.
    """
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(graph).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    dequantised = {n.output[0] for n in graph.graph.node if n.op_type == "DequantizeLinear"}
    found = set()
    for node in graph.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            source = node.input[0]
            found.add(INT8 if source in dequantised else _type_name(types[source]) if source in types else "unknown")
    return INT8 if INT8 in found else "+".join(sorted(found))
