"""NVIDIA's ModelOpt as an alternative engine: it measures the ranges and places the Q/DQ nodes; decoder and metadata are ours.

``pip install -e ".[modelopt]"`` in an environment of its own: it pins onnx and ONNX Runtime's GPU build.
"""

from __future__ import annotations

import tempfile
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import BackendError, BuildError, UsageError
from keyposs_trt.graph import attach_decoder, save_model
from keyposs_trt.graph.calibration_file import Calibration, network_sha256
from keyposs_trt.graph.contract import INPUT
from keyposs_trt.graph.metadata import spec_of_model
from keyposs_trt.graph.onnx_package import PREPROCESS
from keyposs_trt.graph.placement import place
from keyposs_trt.graph.qdq import LEVELS, constant_values, is_quantised, network_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from keyposs_trt.calibration.run import Method
    from keyposs_trt.calibration.sets import CalibrationSet

_METHODS = {"minmax": "max", "entropy": "entropy"}
INSTALL = "pip install 'nvidia-modelopt[onnx]', in an environment of its own, as it pins onnx and onnxruntime-gpu"


def quantise_with_modelopt(
    model: onnx.ModelProto, crops: CalibrationSet, method: Method, exclude: Sequence[str], *, name: str, source: str
) -> tuple[Calibration, onnx.ModelProto]:
    """The calibration, as far as ModelOpt's graph tells it, and the Q/DQ model.

    ModelOpt gets the plain network: with a decoder in the graph it would cast that to float16 too, and it needs a GPU for operators it does
    not know. Stem and head are left out as by the builtin engine. It is never called without crops, since it would calibrate on noise.

    Args:
        model: a float model of this toolkit.
        crops: all of them are held in memory at once, as ModelOpt takes an array.
        method: minmax or entropy.
        exclude: names of layers that stay in float16.
        name: of the model, for messages.
        source: what the crops are, in words.

    Raises:
        UsageError: a method that ModelOpt does not have.
        BackendError: ModelOpt is not installed.
        BuildError: it failed, or gave no Q/DQ nodes.
    """
    from keyposs_trt import __version__

    if method.name not in _METHODS:
        raise UsageError(f"ModelOpt has no method '{method.name}'; give --method {' or '.join(_METHODS)}, or leave --engine out.")
    try:
        quantization: Any = import_module("modelopt.onnx.quantization")
    except ImportError as e:
        raise BackendError(f"NVIDIA ModelOpt cannot be imported ({e}); install it: {INSTALL}.") from e
    spec = spec_of_model(model, name)
    network = network_of(model)
    placement = place(network.graph, exclude)
    outside = [n.name for n in network.graph.node if n.name.startswith(PREPROCESS)]
    with tempfile.TemporaryDirectory() as folder:
        plain, result = Path(folder) / "plain.onnx", Path(folder) / "quantised.onnx"
        save_model(network, plain)
        try:
            quantization.quantize(
                onnx_path=str(plain),
                quantize_mode="int8",
                calibration_data={INPUT: crops.crops},
                calibration_method=_METHODS[method.name],
                calibration_eps=["cpu"],
                nodes_to_exclude=[*placement.kept, *outside],
                high_precision_dtype="fp16",
                output_path=str(result),
            )
            found = import_module("onnx").load(str(result))
        except Exception as e:  # it raises whatever the libraries below it raise
            raise BuildError(f"ModelOpt failed on '{name}' ({' '.join(str(e).split())[:200]}); calibrate with the builtin engine.") from e
    if not is_quantised(found):
        raise BuildError(f"ModelOpt gave a model of '{name}' without Q/DQ nodes; calibrate with the builtin engine.")
    calibration = Calibration(
        model=name,
        network_sha256=network_sha256(model),
        method=f"modelopt {method.name}",
        percentile=None,
        source=source,
        samples=len(crops),
        set_sha256=crops.digest,
        ranges=_ranges(found.graph),
        excluded=tuple(exclude),
        tool=f"keyposs-trt {__version__}, modelopt {getattr(import_module('modelopt'), '__version__', 'of unknown version')}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return calibration, attach_decoder(found, spec)


def _ranges(graph: onnx.GraphProto) -> dict[str, float]:
    """By activation, the range that its scale stands for."""
    values = constant_values(graph)
    found = {}
    for node in graph.node:
        scale = values.get(node.input[1]) if node.op_type == "QuantizeLinear" else None
        if scale is not None and np.size(scale) == 1 and node.input[0] not in values:
            found[node.input[0]] = float(scale) * LEVELS
    return found
