"""What one runner has on the GPU: a stream, buffers for the largest batch, contexts and graphs."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine.buffers import Buffers, Pair
from keyposs_trt.engine.cuda_graph import Call, Graphs
from keyposs_trt.engine.device import ALIGNMENT
from keyposs_trt.engine.device_arrays import DeviceArray, ResultMemory
from keyposs_trt.engine.frames import FrameStore
from keyposs_trt.engine.precision import FP16, FP32, precision_name
from keyposs_trt.engine.preprocess_library import CropLayout
from keyposs_trt.errors import BackendError, ModelError
from keyposs_trt.graph.contract import INPUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from keyposs_trt.engine.device import Device
    from keyposs_trt.engine.device_arrays import View
    from keyposs_trt.engine.frames import CropLibrary, DeviceFrame
    from keyposs_trt.engine.shared_engine import Context, SharedEngine

_TYPES: dict[str, type[np.generic]] = {FP32: np.float32, FP16: np.float16, "uint8": np.uint8}
_HOST, _FRAMES, _DEVICE = "host", "frames", "device"
_BLACK = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Tensor:
    """One input or output: [largest batch, *shape] of ``dtype``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pair: Pair

    @property
    def row(self) -> int:
        """Bytes of one face."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def view(self, count: int) -> NDArray[Any]:
        """The first faces, for the CPU."""
        return self.pair.view((count, *self.shape), self.dtype)


class Execution:
    """Runs at most one largest batch at a time, called by one thread at a time and inside ``device.current``.

    Args:
        shared: the engine; this execution is one of its users and releases it.
        device: the GPU.

    Raises:
        BackendError: memory or a context cannot be had.
        ModelError: the engine has other tensors than its manifest says.
    """

    def __init__(self, shared: SharedEngine, device: Device) -> None:
        self._shared = shared
        self._device = device
        self._busy = False
        self._kept: list[object] = []
        self._graphs: Graphs | None = None
        self._rows: Pair | None = None
        with ExitStack() as undo:
            undo.callback(shared.release)
            self._stream = device.new_stream()
            undo.callback(device.end_stream, self._stream)
            self._buffers = Buffers(device, self._stream)
            undo.callback(self._buffers.close)
            self._frames = FrameStore(self._buffers)
            self._results = ResultMemory(device, self._stream)
            self._tensors = {name: self._tensor(name, *found) for name, found in self._checked_tensors().items()}
            self._scratch = self._buffers.scratch(max(shared.scratch, ALIGNMENT))
            base = self._context()
            self._graphs = Graphs(device, self._stream, shared.manifest.plan, base, lambda: self._context(for_graph=True))
            undo.pop_all()

    def close(self) -> None:
        """Frees everything, in the order CUDA and TensorRT want; raises nothing."""
        try:
            self._device.synchronise(self._stream)
        except BackendError:
            with suppress(BackendError):  # where this fails too, the GPU does nothing any more
                self._device.synchronise_all()
        if self._graphs is not None:
            self._graphs.close()
        self._kept.clear()
        self._results.close()
        self._buffers.close()
        self._device.end_stream(self._stream)
        self._shared.release()

    def from_host(self, crops: NDArray[np.uint8], *, download: bool, lap: Callable[[str], object] | None = None) -> None:
        """Starts a run on crops [N, S, S, 3] of the CPU, N at least 1.

        Args:
            crops: uint8 RGB.
            download: send the results to the CPU, for ``fetch``.
            lap: told of each step once the GPU has done it, which then runs without a graph.
        """
        self.settle()
        image = self._tensors[INPUT]
        count = self._filled(len(crops))
        staged = image.view(count)
        np.copyto(staged[: len(crops)], crops)
        staged[len(crops) :] = 0
        call = Call(_HOST, count, image.pair.device.address, download)
        self._run(call, lambda: self._buffers.upload(image.pair, count * image.row), lap)

    def begin_frames(self) -> None:
        """Frames that come now have nothing to do with those before."""
        self._frames.begin()

    def place(self, frames: dict[int, NDArray[np.uint8]]) -> dict[int, DeviceFrame]:
        """Sends frames of the CPU to the GPU, see ``FrameStore.place``; they stay until the next are placed."""
        self.settle()
        self._busy = True
        return self._frames.place(frames)

    def from_rows(self, rows: NDArray[Any], library: CropLibrary, *, download: bool) -> None:
        """Starts a run on crops that rows of ``CROP_DTYPE`` [N] describe; the frames they name stay as they are until it is done."""
        image = self._tensors[INPUT]
        count = self._filled(len(rows))
        if self._rows is None:
            self._rows = self._buffers.pair(self._shared.manifest.batch[2] * rows.dtype.itemsize)
        pair = self._rows
        staged = pair.view((count,), rows.dtype)
        staged[: len(rows)] = rows
        staged[len(rows) :] = rows[-1]

        def crop() -> None:
            self._buffers.upload(pair, count * rows.dtype.itemsize)
            address, size = image.pair.device.address, self._shared.manifest.spec.input_size
            library.launch(pair.device.address, count, size, address, CropLayout.UINT8, None, None, _BLACK, self._stream)

        self._run(Call(_FRAMES, count, image.pair.device.address, download), crop, None)

    def from_device(self, view: View, first: int, number: int, *, download: bool) -> None:
        """Starts a run on crops of a contiguous array on the GPU, where they are if their place suits TensorRT."""
        self.settle()
        image = self._tensors[INPUT]
        count = self._filled(number)
        address = view.address + first * image.row
        if count != number or address % ALIGNMENT:
            self._device.copy(image.pair.device.address, address, number * image.row, self._stream)
            self._busy = True
            address = image.pair.device.address
        self._run(Call(_DEVICE, count, address, download), lambda: None, None)

    def fetch(self, number: int) -> dict[str, NDArray[Any]]:
        """Waits for a run, and gives float32 outputs by name, of its first crops."""
        self.settle()
        return {name: self._tensors[name].view(number)[:].astype(np.float32) for name in self._outputs}

    def take_results(self, number: int, stream: int | None, user: object = None) -> dict[str, DeviceArray]:
        """Memory on the GPU for the outputs of so many crops, by name; used in the order of ``stream``, which ``user`` keeps alive."""
        starts, end = {}, 0
        for name in self._outputs:
            starts[name] = end
            end += -(-number * self._tensors[name].row // ALIGNMENT) * ALIGNMENT
        held = self._results.take(max(end, ALIGNMENT), stream, user)
        base = held.memory.address
        return {n: DeviceArray(base + s, (number, *self._tensors[n].shape), self._tensors[n].dtype, held) for n, s in starts.items()}

    def keep(self, arrays: dict[str, DeviceArray], first: int, number: int) -> None:
        """Copies the outputs of a run to their place in such memory, on the GPU."""
        for name, array in arrays.items():
            tensor = self._tensors[name]
            self._device.copy(array.address + first * tensor.row, tensor.pair.device.address, number * tensor.row, self._stream)

    def settle(self) -> None:
        """Waits for what is at work, if anything is; then page-locked memory may be written, and what was kept alive may go."""
        if self._busy:
            self._device.synchronise(self._stream)
            self._busy = False
        self._kept.clear()

    def hold(self, owners: Iterable[object]) -> None:
        """Keeps something alive until what is at work is done."""
        self._kept += owners

    def wait_for(self, streams: Sequence[int]) -> None:
        """What comes now waits for what is in other streams."""
        for stream in dict.fromkeys(streams):
            self._device.follow(self._stream, stream)

    def let_wait(self, stream: int) -> None:
        """What comes in another stream waits for what is at work here."""
        self._device.follow(stream, self._stream)

    @property
    def _outputs(self) -> tuple[str, ...]:
        return tuple(self._shared.manifest.spec.outputs)

    def _filled(self, number: int) -> int:
        """Crops the plan is run on for so many: not fewer than its smallest batch."""
        return max(number, self._shared.manifest.batch[0])

    def _run(self, call: Call, prepare: Callable[[], None], lap: Callable[[str], object] | None) -> None:
        assert self._graphs is not None
        image = self._tensors[INPUT]

        def end(step: str) -> None:
            if lap is not None:
                self._device.synchronise(self._stream)
                lap(step)

        def enqueue(context: Context) -> None:
            prepare()
            end("copy in")
            context.set_address(INPUT, call.address)
            context.run((call.count, *image.shape), self._stream)
            end("network")
            if call.download:
                for name in self._outputs:
                    tensor = self._tensors[name]
                    self._buffers.download(tensor.pair, call.count * tensor.row)
                end("copy out")

        self._busy = True
        self._graphs.run(call, enqueue, plain=lap is not None)

    def _context(self, *, for_graph: bool = False) -> Context:
        context = self._shared.new_context(self._scratch.address, for_graph=for_graph)
        for name in self._outputs:
            context.set_address(name, self._tensors[name].pair.device.address)
        return context

    def _checked_tensors(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        found = self._shared.tensors()
        if set(found) != {INPUT, *self._outputs}:
            raise ModelError(f"'{self._shared.path}' has the tensors {', '.join(found)}, not those its manifest promises; build it again.")
        return found

    def _tensor(self, name: str, shape: tuple[int, ...], trt_type: Any) -> _Tensor:
        """Takes memory for a tensor at the largest batch."""
        data_type = precision_name(trt_type)
        if data_type not in _TYPES:
            raise ModelError(f"The engine's tensor '{name}' is of type {data_type}, which no model of this toolkit has; build it again.")
        dtype = np.dtype(_TYPES[data_type])
        return _Tensor(shape, dtype, self._buffers.pair(self._shared.manifest.batch[2] * int(np.prod(shape)) * dtype.itemsize))
