"""Reading an ONNX file of this toolkit with the onnx package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyposs_trt.errors import BackendError, ModelError
from keyposs_trt.files import read_bytes

if TYPE_CHECKING:
    import os

    import onnx

    from keyposs_trt.graph.contract import ModelSpec


def load_graph(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Any ONNX file.

    Raises:
        BackendError: the onnx package is missing.
        InputError: the file cannot be read.
        ModelError: it is no ONNX model.
    """
    try:
        import onnx
    except ImportError as e:
        raise BackendError("Reading an ONNX graph needs the onnx package; install it with: pip install onnx") from e
    from google.protobuf.message import DecodeError

    data = read_bytes(path, "model")
    broken = f"'{path}' is no ONNX model, or a damaged one; copy or export it again."
    try:
        graph = onnx.load_model_from_string(data)
    except DecodeError as e:
        raise ModelError(broken) from e
    # Protobuf reads many a stray byte as an empty message.
    if not graph.graph.node or not graph.opset_import:
        raise ModelError(broken)
    return graph


def load_onnx(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, ModelSpec]:
    """A model of this toolkit and its metadata, which agree.

    Raises:
        BackendError, InputError: as ``load_graph``.
        ModelError: it is no ONNX model, has no metadata of ours, or breaks the graph contract.
    """
    from keyposs_trt.graph import spec_of_model

    model = load_graph(path)
    return model, spec_of_model(model, path)
