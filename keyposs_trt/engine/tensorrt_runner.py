"""Runs plans of TensorRT and TensorRT-RTX: one runner for both, since their execution API is the same."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.crop import crop_faces
from keyposs_trt.engine.cuda_device import CudaDevice
from keyposs_trt.engine.device_arrays import DeviceOutputs, stream_handle, view_of
from keyposs_trt.engine.execution import Execution
from keyposs_trt.engine.frames import DeviceFrame, check_frames, pieces
from keyposs_trt.engine.manifest import open_plan, require_gpu
from keyposs_trt.engine.preprocess_library import PreprocessLibrary, crop_rows, library_is_expected
from keyposs_trt.engine.runner import Outputs, check_crops, decode_heatmaps, empty_outputs
from keyposs_trt.engine.shared_engine import SharedEngine
from keyposs_trt.errors import BackendError, UsageError
from keyposs_trt.graph.contract import HEATMAPS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from keyposs_trt.engine.device import Device
    from keyposs_trt.engine.frames import CropLibrary
    from keyposs_trt.engine.manifest import Manifest
    from keyposs_trt.graph.contract import ModelSpec

_log = logging.getLogger(__name__)


class TensorRTRunner:
    """One plan on the first GPU, see ``keyposs_trt.engine.runner.Runner`` and ``keyposs_trt.engine.frames.FrameRunner``.

    Memory is taken once, for the plan's largest batch; larger calls are cut into pieces of that size, and smaller ones than
    its smallest batch are filled up. Calls from several threads wait for each other; ``clone`` gives each thread a runner of its own.

    Args:
        path: a plan with its manifest beside it.
        backend: ``auto`` or the runtime the manifest names.
        device: the GPU; None for the first one.
        library: makes crops on the GPU; None for the one that comes with keyposs-trt, where it is built.

    Raises:
        UsageError: another backend than the plan's.
        InputError, ModelError: see ``keyposs_trt.engine.manifest.open_plan``.
        BackendError: the runtime, cuda-python or a GPU is missing, or the plan does not start.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        backend: str = "auto",
        *,
        device: Device | None = None,
        library: CropLibrary | None = None,
    ) -> None:
        manifest, plan = open_plan(path)
        if backend not in ("auto", manifest.runtime):
            raise UsageError(f"'{path}' is a {manifest.runtime} engine, not one of {backend}; use the backend {manifest.runtime} or auto.")
        require_gpu(path, manifest)
        gpu = device or CudaDevice()
        with gpu.current():
            self._start(SharedEngine(path, manifest, plan, gpu.name), gpu, library)

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself."""
        return self._shared.manifest.spec

    @property
    def backend(self) -> str:
        """``tensorrt`` or ``tensorrt-rtx``."""
        return self._shared.manifest.runtime

    @property
    def manifest(self) -> Manifest:
        """What the plan was built from and for."""
        return self._shared.manifest

    def clone(self) -> TensorRTRunner:
        """Another runner on the same engine, with a stream, memory and contexts of its own; both are closed, in any order.

        Raises:
            BackendError: this one is closed, or the GPU has no room for more.
        """
        twin = object.__new__(type(self))
        with self._at_work():
            twin._start(self._shared.share(), self._device, self._library)
        return twin

    def __call__(self, crops: NDArray[np.uint8]) -> Outputs:
        """Runs the plan on crops [N, S, S, 3] uint8 RGB; N may be 0 and larger than the plan's largest batch."""
        return self._call(crops, None)

    def in_steps(self, crops: NDArray[np.uint8], lap: Callable[[str], object]) -> Outputs:
        """As a call, but step by step and without CUDA graphs, see ``keyposs_trt.engine.runner.StepRunner``."""
        return self._call(crops, lap)

    def on_frames(
        self, frames: Sequence[NDArray[np.uint8] | DeviceFrame], squares: Sequence[NDArray[np.float32]]
    ) -> tuple[Outputs, NDArray[np.float64]]:
        """Runs the plan on faces in frames, see ``keyposs_trt.engine.frames.FrameRunner``.

        Crops are made on the GPU, or by the CPU where the library for that is not built.

        Raises:
            UsageError: frames or squares that make no sense.
            BackendError: CUDA or the engine fails; or frames are on the GPU, and the library is not built.
        """
        parts = check_frames(frames, squares)
        library = self._cropper(frames)
        if library is None:
            made = [crop_faces(f, s, self.spec.input_size) for f, s in zip(frames, parts, strict=True) if isinstance(f, np.ndarray)]
            crops = [np.zeros((0, self.spec.input_size, self.spec.input_size, 3), np.uint8), *(c for c, _ in made)]
            return self(np.concatenate(crops)), _joined([m for _, m in made])
        found, matrices = [], []
        with self._at_work() as execution:
            for number, maps in self._run_frames(execution, frames, parts, library, download=True):
                found.append(execution.fetch(number))
                matrices.append(maps)
        return self._outputs(found), _joined(matrices)

    def on_device(self, crops: Any, stream: Any = None) -> DeviceOutputs:
        """As a call, but the results stay on the GPU.

        Args:
            crops: [N, S, S, 3] uint8 RGB without gaps, on the GPU (``__dlpack__`` or ``__cuda_array_interface__``) or of the CPU.
            stream: of PyTorch, CuPy, PyCUDA or cuda.core, or its handle: the run waits for what is in it, and what comes in it waits
                for the run; nobody else waits. None: the results are ready on return.

        Raises:
            UsageError: crops of another kind, no stream, or a model without a decoder.
            BackendError: CUDA or the engine fails, or the array is of another GPU or CUDA context.
        """
        size = self.spec.input_size
        view = None if isinstance(crops, np.ndarray) else view_of(crops)
        if view is None:
            crops = check_crops(crops, self.spec)
        elif view.dtype != np.uint8 or len(view.shape) != 4 or view.shape[1:] != (size, size, 3) or not view.contiguous:
            gaps = "" if view.contiguous else " with gaps"
            raise UsageError(
                f"Model '{self.spec.name}' takes crops of uint8 [N, {size}, {size}, 3], not {view.dtype} {list(view.shape)}{gaps}."
            )
        count = len(crops) if view is None else view.shape[0]
        with self._results_in(stream) as (execution, handle):
            if view is not None and count:  # an empty array has no address
                self._device.check_address(view.address)
                execution.wait_for([view.stream])
            arrays = execution.take_results(count, handle, stream)
            for first in range(0, count, self._largest):
                number = min(self._largest, count - first)
                if view is None:
                    execution.from_host(crops[first : first + number], download=False)
                else:
                    execution.from_device(view, first, number, download=False)
                execution.keep(arrays, first, number)
            execution.hold([view])
        return DeviceOutputs(**arrays)

    def frames_on_device(
        self, frames: Sequence[NDArray[np.uint8] | DeviceFrame], squares: Sequence[NDArray[np.float32]], stream: Any = None
    ) -> tuple[DeviceOutputs, NDArray[np.float64]]:
        """As ``on_frames``, but the results stay on the GPU; ``stream`` as for ``on_device``."""
        parts = check_frames(frames, squares)
        library = self._cropper(frames)
        if library is None:
            raise self._no_library()
        matrices, first = [], 0
        with self._results_in(stream) as (execution, handle):
            arrays = execution.take_results(sum(map(len, parts)), handle, stream)
            for number, maps in self._run_frames(execution, frames, parts, library, download=False):
                execution.keep(arrays, first, number)
                matrices.append(maps)
                first += number
            execution.hold(frames)
        return DeviceOutputs(**arrays), _joined(matrices)

    def close(self) -> None:
        """Frees what is this runner's alone, and the engine with the last of its runners; twice does no harm."""
        with self._lock, ExitStack() as stack:
            execution, self._execution = self._execution, None
            if execution is not None:
                with suppress(BackendError):  # freeing goes as far as it goes
                    stack.enter_context(self._device.current())
                execution.close()

    def __enter__(self) -> TensorRTRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, shared: SharedEngine, device: Device, library: CropLibrary | None) -> None:
        self._shared = shared
        self._device = device
        self._library = library
        self._library_problem: BackendError | None = None
        self._lock = Lock()
        self._execution: Execution | None = Execution(shared, device)

    @property
    def _largest(self) -> int:
        return self.manifest.batch[2]

    @contextmanager
    def _at_work(self) -> Iterator[Execution]:
        """One thread at a time, with the GPU's context."""
        with self._lock:
            if self._execution is None:
                raise BackendError(f"The runner of '{self._shared.path}' is closed; open the engine again.")
            with self._device.current():
                try:
                    yield self._execution
                except BaseException:
                    with suppress(BackendError):  # the error that is there already is the one to tell
                        self._execution.settle()
                    raise

    @contextmanager
    def _results_in(self, stream: Any) -> Iterator[tuple[Execution, int | None]]:
        """Work whose results stay on the GPU, ordered with somebody's stream; None waits for it."""
        if HEATMAPS in self.spec.outputs:
            raise UsageError(
                f"Model '{self.spec.name}' has no decoder, so its landmarks are made on the CPU; graft one with 'keyposs-trt export'."
            )
        handle = None if stream is None else stream_handle(stream)
        with self._at_work() as execution:
            execution.settle()
            if handle is not None:
                execution.wait_for([handle])
            yield execution, handle
            if handle is None:
                execution.settle()
            else:
                execution.let_wait(handle)

    def _call(self, crops: NDArray[np.uint8], lap: Callable[[str], object] | None) -> Outputs:
        crops = check_crops(crops, self.spec)
        found = []
        with self._at_work() as execution:
            for first in range(0, len(crops), self._largest):
                piece = crops[first : first + self._largest]
                execution.from_host(piece, download=True, lap=lap)
                found.append(execution.fetch(len(piece)))
        return self._outputs(found)

    def _outputs(self, found: list[dict[str, NDArray[Any]]]) -> Outputs:
        if not found:
            return empty_outputs(self.spec)
        whole = {name: np.concatenate([part[name] for part in found]) for name in self.spec.outputs}
        return decode_heatmaps(whole[HEATMAPS], self.spec) if HEATMAPS in whole else Outputs(**whole)

    def _run_frames(
        self, execution: Execution, frames: Sequence[Any], parts: Sequence[NDArray[np.float32]], library: CropLibrary, *, download: bool
    ) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Starts the runs of a call, one after the other; gives the number of crops of each, and their maps."""
        there = {n: f for n, f in enumerate(frames) if isinstance(f, DeviceFrame) and len(parts[n])}
        for frame in there.values():
            self._device.check_address(frame.address)
        execution.wait_for([frame.stream for frame in there.values()])
        execution.begin_frames()
        for piece in pieces([len(p) for p in parts], self._largest):
            placed = there | execution.place({n: frames[n] for n in piece if n not in there})
            rows, maps = [], []
            for number, faces in piece.items():
                f = placed[number]
                size = self.spec.input_size
                made = crop_rows(parts[number][faces], (f.width, f.height), size, f.address, f.pitch, f.format, f.chroma, f.chroma_pitch)
                rows.append(made[0])
                maps.append(made[1])
            execution.from_rows(np.concatenate(rows), library, download=download)
            yield sum(map(len, rows)), np.concatenate(maps)

    def _cropper(self, frames: Sequence[Any]) -> CropLibrary | None:
        """What makes crops on the GPU; None where it is not built and no frame needs it."""
        if self._library is None and self._library_problem is None:
            try:
                self._library = PreprocessLibrary()
            except BackendError as e:
                self._library_problem = e
                level = logging.WARNING if library_is_expected() else logging.INFO
                _log.log(level, "'%s': crops are made by the CPU. %s", self.spec.name, e)
        if self._library is None and any(isinstance(frame, DeviceFrame) for frame in frames):
            raise self._no_library()
        return self._library

    def _no_library(self) -> BackendError:
        return BackendError(f"Frames on the GPU, and results that stay there, need crops made there: {self._library_problem}")


def _joined(matrices: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((0, 2, 3)), *matrices])
