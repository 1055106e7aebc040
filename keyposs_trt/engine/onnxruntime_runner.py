"""Models on ONNX Runtime: the runtime that works everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.runner import Outputs, check_crops, decode_heatmaps, empty_outputs
from keyposs_trt.engine.session import open_session
from keyposs_trt.errors import BackendError
from keyposs_trt.graph import spec_of_session
from keyposs_trt.graph.contract import INPUT
from keyposs_trt.graph.onnxruntime_package import first_line, session_errors

if TYPE_CHECKING:
    import os
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from keyposs_trt.graph.contract import ModelSpec


class OnnxRuntimeRunner:
    """One ONNX model in ONNX Runtime. Safe to call from several threads.

    Attributes:
        spec: what the model says of itself.
        backend: ``onnxruntime``.
        provider: the execution provider that runs it, ``CPUExecutionProvider`` or ``CUDAExecutionProvider``.
    """

    backend = "onnxruntime"

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None, gpu: bool = False) -> None:
        """Loads a model.

        Args:
            path: the ONNX file.
            threads: CPU threads; None for all cores.
            gpu: use the CUDA provider where this ONNX Runtime has it.

        Raises:
            ModelError: the file is missing, corrupt, foreign or of another version.
            BackendError: ONNX Runtime is missing.
        """
        session = open_session(path, threads=threads, gpu=gpu)
        self.spec: ModelSpec = spec_of_session(session, path)
        if self.spec.precision == "int8" and session.get_providers()[0] == "CPUExecutionProvider":
            session = open_session(path, threads=threads, gpu=gpu, exact=True)
        self.provider: str = session.get_providers()[0]
        self._session: InferenceSession | None = session
        self._path = path

    def __call__(self, crops: NDArray[np.uint8]) -> Outputs:
        """Runs the model on crops [N, S, S, 3] uint8 RGB.

        Raises:
            UsageError: the crops have another shape or type.
            BackendError: the runner is closed, or ONNX Runtime failed.
        """
        session = self._session  # another thread may close the runner meanwhile
        if session is None:
            raise BackendError(f"The runner of '{self._path}' is closed; open the model again.")
        crops = check_crops(crops, self.spec)
        if not len(crops):
            return empty_outputs(self.spec)
        try:
            outputs: Any = session.run(list(self.spec.outputs), {INPUT: crops})
        except session_errors() as e:
            raise BackendError(f"ONNX Runtime failed on '{self._path}' with {len(crops)} crops ({first_line(e)}).") from e
        if self.spec.decoder == "none":
            return decode_heatmaps(outputs[0], self.spec)
        return Outputs(*outputs)

    def close(self) -> None:
        """Frees the session."""
        self._session = None

    def __enter__(self) -> OnnxRuntimeRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
