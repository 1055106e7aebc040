"""ONNX Runtime sessions with the settings of this toolkit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyposs_trt.errors import ModelError
from keyposs_trt.files import is_utf8
from keyposs_trt.graph.onnxruntime_package import compute_exactly, load_session, require_onnxruntime

if TYPE_CHECKING:
    import os

    from onnxruntime import InferenceSession


def open_session(path: str | os.PathLike[str], *, threads: int | None = None, gpu: bool = False, exact: bool = False) -> InferenceSession:
    """An inference session with the settings of this toolkit: quiet, and idle between calls.

    Args:
        path: any ONNX file.
        threads: CPU threads; None for all cores.
        gpu: put the CUDA provider first where this ONNX Runtime has it.
        exact: see ``compute_exactly``; for models with Q/DQ nodes.

    Raises:
        ModelError: the file is missing, empty, or is not a model ONNX Runtime can load.
        BackendError: ONNX Runtime is missing.
    """
    if not is_utf8(path):
        raise ModelError(f"ONNX Runtime cannot open '{path}': its name is not UTF-8; rename the file.")
    ort = require_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    # The detector and the network take turns: threads that go on spinning after a call would slow the other down.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if exact:
        compute_exactly(options)
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
    return load_session(path, options, [p for p in wanted if p in ort.get_available_providers()])
