"""Runners: one model on one runtime, called with crops and giving landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from keyposs_trt.decode import wls
from keyposs_trt.errors import ModelError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

    from keyposs_trt.graph.contract import ModelSpec

BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")
PLAN_SUFFIXES = (".plan", ".engine")
_CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a runner gives for N crops.

    Attributes:
        landmarks: [N, L, 2] float32, crop pixels.
        scores: [N, L] float32 in [0, 1].
        covariance: [N, L, 3] float32, xx, xy, yy in crop pixels squared.
    """

    landmarks: NDArray[np.float32]
    scores: NDArray[np.float32]
    covariance: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.landmarks)


class Runner(Protocol):
    """One open model. Calls may come from several threads; ``close`` frees what the runtime holds."""

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself."""
        ...

    @property
    def backend(self) -> str:
        """``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``."""
        ...

    def __call__(self, crops: NDArray[np.uint8]) -> Outputs:
        """Runs the model on crops [N, S, S, 3] uint8 RGB; N may be 0."""
        ...

    def close(self) -> None:
        """Frees the runtime's resources; the runner cannot be called afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


@runtime_checkable
class StepRunner(Protocol):
    """A runner that can also tell where its time goes."""

    def in_steps(self, crops: NDArray[np.uint8], lap: Callable[[str], object]) -> Outputs:
        """As a call, but it waits for the device after each step and gives its name to ``lap``: ``copy in``, ``network``, ``copy out``.

        The names come again for each piece where the crops are more than the largest batch.
        """
        ...


def open_runner(path: str | os.PathLike[str], backend: str = "auto", threads: int | None = None) -> Runner:
    """Opens a model file on the runtime it belongs to.

    Args:
        path: ``.onnx``, run by ONNX Runtime; or ``.plan`` or ``.engine``, run by the TensorRT its manifest names.
        backend: one of ``BACKENDS``. ``auto`` lets the file decide and takes ONNX Runtime's CUDA provider where that is
            installed; ``onnxruntime`` stays on the CPU.
        threads: CPU threads of ONNX Runtime; None for all cores.

    Raises:
        UsageError: an unknown backend, or one that does not run this kind of file.
        ModelError: the file is missing, corrupt, foreign or of another version.
        BackendError: the runtime is missing or cannot run here.
    """
    path = Path(path)
    if backend not in BACKENDS:
        raise UsageError(f"There is no backend '{backend}'; choose one of {', '.join(BACKENDS)}.")
    if threads is not None and threads < 1:
        raise UsageError(f"The number of threads must be at least 1, not {threads}.")
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        if backend not in ("auto", "onnxruntime"):
            raise UsageError(f"{backend} runs engines, not '{path}'; make one with 'keyposs-trt build {path} --backend {backend}'.")
        from keyposs_trt.engine.onnxruntime_runner import OnnxRuntimeRunner

        return OnnxRuntimeRunner(path, threads=threads, gpu=backend == "auto")
    if suffix in PLAN_SUFFIXES:
        if backend == "onnxruntime":
            raise UsageError(f"'{path}' is a TensorRT engine, which onnxruntime cannot run; give the .onnx model, or backend 'auto'.")
        from keyposs_trt.engine.tensorrt_runner import TensorRTRunner

        return TensorRTRunner(path, backend)
    if suffix in _CHECKPOINT_SUFFIXES:
        raise ModelError(f"'{path}' is a training checkpoint; export it first with 'keyposs-trt export {path}'.")
    raise ModelError(f"'{path}' is not a model this tool runs; give a .onnx, .plan or .engine file.")


def check_crops(crops: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """The crops, contiguous.

    Raises:
        UsageError: they are not [N, S, S, 3] uint8 of the model's input size.
    """
    size = spec.input_size
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
        raise UsageError(f"Model '{spec.name}' takes crops of uint8 [N, {size}, {size}, 3], not {crops.dtype} {list(crops.shape)}.")
    return np.ascontiguousarray(crops)


def empty_outputs(spec: ModelSpec) -> Outputs:
    """The outputs of no crops."""
    zero = np.zeros((0, spec.points, 3), np.float32)
    return Outputs(zero[..., :2], zero[..., 0], zero)


def decode_heatmaps(heatmaps: NDArray[np.floating], spec: ModelSpec) -> Outputs:
    """Decodes the maps [N, L, H, W] of a model without a decoder, in NumPy."""
    decoded = wls(heatmaps, **spec.solver_parameters()).to_crop(spec.stride, spec.grid)
    assert decoded.covariance is not None  # wls always gives one
    return Outputs(decoded.points, decoded.scores, decoded.covariance)
