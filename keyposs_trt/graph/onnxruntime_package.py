"""ONNX Runtime where it is installed: loading a model, and telling in one sentence why it cannot be loaded."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError, ModelError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from onnxruntime import InferenceSession

_ERRORS_ONLY = 3  # ONNX Runtime's log severity


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
        BackendError: ONNX Runtime is not installed.
    """
    ort = require_onnxruntime()
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"There is no model '{path}'; check the path.")
    if file.stat().st_size == 0:
        raise ModelError(f"The model '{path}' is empty; copy or export it again.")
    options.log_severity_level = _ERRORS_ONLY
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers))
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
