"""ONNX Runtime where it is installed: loading a model, and telling in one sentence why it cannot be loaded."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError, ModelError
from keyposs_trt.graph.contract import PLUGIN_NAME

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from onnxruntime import InferenceSession

_ERRORS_ONLY = 3  # ONNX Runtime's log severity
# Its words for an operator in a domain of its own, and for one in ONNX's.
_UNKNOWN_OPERATOR = re.compile(r"error: (?P<name>\S+?)\(-?\d+\) is not a registered|No Op registered for (?P<plain>\S+)")


def require_onnxruntime() -> Any:
    """The onnxruntime module, quiet.

    Raises:
        BackendError: it is not installed, or does not load.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise BackendError(f"ONNX Runtime cannot be imported ({e}); install it with: pip install onnxruntime") from e
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    return onnxruntime


def load_session(path: str | os.PathLike[str], options: Any, providers: Sequence[str]) -> InferenceSession:
    """An inference session of any ONNX file; ``options`` are SessionOptions.

    Raises:
        ModelError: the file is missing, empty, or not a model ONNX Runtime can load.
        BackendError: ONNX Runtime is not installed, or the model decodes with TensorRT's plugin.
    """
    require_onnxruntime()
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"There is no model '{path}'; check the path.")
    if file.stat().st_size == 0:
        raise ModelError(f"The model '{path}' is empty; copy or export it again.")
    return _open(str(path), path, options, providers)


def session_in_memory(model: bytes, source: object, threads: int | None = None, exact: bool = False) -> InferenceSession:
    """An inference session on the CPU of a model that is no file yet; ``source`` names it in messages.

    Args:
        threads: CPU threads; None for all cores.
        exact: see ``compute_exactly``.

    Raises:
        ModelError: it is not a model ONNX Runtime can load.
        BackendError: ONNX Runtime is not installed, or the model decodes with TensorRT's plugin.
    """
    options = require_onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if exact:
        compute_exactly(options)
    return _open(model, source, options, ["CPUExecutionProvider"])


def compute_exactly(options: Any) -> None:
    """Has a graph with Q/DQ nodes computed as it is written, which is the arithmetic of TensorRT's INT8.

    Otherwise ONNX Runtime fuses the pairs and their convolutions into integer kernels. On processors without VNNI these saturate sums of
    two products in 16 bits, which no GPU does.
    """
    options.graph_optimization_level = require_onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL


def _open(model: str | bytes, source: object, options: Any, providers: Sequence[str]) -> InferenceSession:
    ort = require_onnxruntime()
    options.log_severity_level = _ERRORS_ONLY
    try:
        return ort.InferenceSession(model, options, providers=list(providers))
    except session_errors() as e:
        raise _refusal(source, str(e)) from e


def _refusal(source: object, words: str) -> ModelError | BackendError:
    """Why a model was not loaded. ONNX Runtime names an operator it does not have; TensorRT's plugin is one."""
    if PLUGIN_NAME in words:
        return BackendError(
            f"'{source}' decodes with TensorRT's plugin {PLUGIN_NAME}, which ONNX Runtime cannot run; export it with "
            f"'keyposs-trt export {source} --decoder onnx', or build an engine with 'keyposs-trt build {source} --backend tensorrt'."
        )
    unknown = _UNKNOWN_OPERATOR.search(words)
    if unknown:
        name = unknown["plain"] or unknown["name"]
        return ModelError(f"'{source}' uses the operator '{name}', which ONNX Runtime does not have; export it with standard operators.")
    return ModelError(f"'{source}' cannot be loaded as an ONNX model ({_first_line(words)}); copy or export it again.")


@cache
def session_errors() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises when it loads or runs a model: its own classes share no base."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError)


def first_line(error: Exception) -> str:
    """ONNX Runtime's own words in one line, without its numbering."""
    return _first_line(str(error)) or type(error).__name__


def _first_line(words: str) -> str:
    text = words.strip().splitlines()
    return text[0].rsplit(" : ", 1)[-1].strip().rstrip(".") if text else ""
