"""ONNX Runtime sessions with the settings of this toolkit."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError, ModelError

if TYPE_CHECKING:
    import os

    from onnxruntime import InferenceSession

_ERRORS_ONLY = 3  # ONNX Runtime's log severity


def open_session(path: str | os.PathLike[str], *, threads: int | None = None, gpu: bool = False) -> InferenceSession:
    """An inference session with the settings of this toolkit: quiet, and idle between calls.

    Args:
        path: any ONNX file.
        threads: CPU threads; None for all cores.
        gpu: put the CUDA provider first where this ONNX Runtime has it.

    Raises:
        ModelError: the file is missing, or is not a model ONNX Runtime can load.
        BackendError: ONNX Runtime is missing.
    """
    ort = _onnxruntime()
    if not Path(path).is_file():
        raise ModelError(f"There is no model '{path}'; check the path.")
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    # The detector and the network take turns: threads that go on spinning after a call would slow the other down.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(str(path), options, providers=[p for p in wanted if p in ort.get_available_providers()])
    except session_errors() as e:
        raise ModelError(f"'{path}' cannot be loaded as an ONNX model ({first_line(e)}); copy or export it again.") from e


@cache
def session_errors() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises when it loads or runs a model: its own classes share no base."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError)


def first_line(error: Exception) -> str:
    """ONNX Runtime's own words in one line, without its numbering."""
    text = str(error).strip().splitlines()
    words = text[0].rsplit(" : ", 1)[-1] if text else type(error).__name__
    return words.strip().rstrip(".")


@cache
def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as e:
        raise BackendError(f"ONNX Runtime cannot be imported ({e}); install it with 'pip install onnxruntime'.") from e
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    return onnxruntime
