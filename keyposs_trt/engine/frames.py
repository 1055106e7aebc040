"""Whole frames for a runner: they go to the GPU once, or lie there already, and the faces' crops are made there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from keyposs_trt.engine.device import LEGACY_STREAM
from keyposs_trt.engine.device_arrays import view_of
from keyposs_trt.engine.preprocess_library import PixelFormat
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from keyposs_trt.engine.buffers import Buffers, Pair
    from keyposs_trt.engine.device_arrays import View
    from keyposs_trt.engine.runner import Outputs


@dataclass(frozen=True, slots=True, eq=False)
class DeviceFrame:
    """A picture in the GPU's memory; ``DeviceFrame.of`` makes one from an array.

    Attributes:
        address: of its first pixel.
        width: pixels.
        height: pixels.
        pitch: bytes from one row to the next.
        format: BGR, 3 bytes a pixel; or NV12, a byte of brightness a pixel and half as many rows of colour, as decoders give it.
        chroma: address of the first row of colour; 0 for BGR.
        chroma_pitch: bytes from one row of colour to the next.
        stream: handle of the stream in which the pixels are ready.
        owner: what keeps them alive.
    """

    address: int
    width: int
    height: int
    pitch: int
    format: PixelFormat = PixelFormat.BGR
    chroma: int = 0
    chroma_pitch: int = 0
    stream: int = LEGACY_STREAM
    owner: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, array: Any, format: PixelFormat = PixelFormat.BGR, chroma: Any = None) -> DeviceFrame:
        """Looks at an array on the GPU without copying it; it must stay as it is until the frame has been worked on.

        Args:
            array: anything with ``__dlpack__`` or ``__cuda_array_interface__``: uint8 [H, W, 3] BGR; of NV12 the brightness [H, W], or
                [H * 3 / 2, W] with the colour below it. Rows may lie apart from each other.
            format: what it holds; of NV12, pictures of 720 rows and more are mostly BT.709, smaller ones BT.601.
            chroma: of NV12, the colour [H / 2, W / 2, 2] or [H / 2, W], where that is an array of its own.

        Raises:
            UsageError: it is none of these.
        """
        view = view_of(array)
        if format == PixelFormat.BGR:
            if view.dtype != np.uint8 or len(view.shape) != 3 or view.shape[2] != 3 or view.strides[1:] != (3, 1):
                raise UsageError(f"A BGR frame on the GPU is uint8 [H, W, 3] with its pixels side by side, not {_described(view)}.")
            height, width = view.shape[:2]
            frame = cls(view.address, width, height, view.strides[0], stream=view.stream, owner=view.owner)
        else:
            frame = _nv12(view, PixelFormat(format), None if chroma is None else view_of(chroma))
        if min(frame.width, frame.height) < 1:
            raise UsageError(f"The frame has no pixels (shape {list(view.shape)}); check where it was cut out.")
        return frame


@runtime_checkable
class FrameRunner(Protocol):
    """A runner that takes whole frames."""

    def on_frames(
        self, frames: Sequence[NDArray[np.uint8] | DeviceFrame], squares: Sequence[NDArray[np.float32]]
    ) -> tuple[Outputs, NDArray[np.float64]]:
        """Runs the model on faces in frames.

        Args:
            frames: each [H, W, 3] uint8 BGR, or on the GPU.
            squares: for each frame its crop squares [F, 3]: centre x, centre y, side in frame pixels.

        Returns:
            the outputs of all crops, frame by frame, and the maps [sum of F, 2, 3] from frame pixels to crop pixels.
        """
        ...


class CropLibrary(Protocol):
    """Makes crops on the GPU, see ``keyposs_trt.engine.preprocess_library.PreprocessLibrary``."""

    def launch(
        self,
        crops_address: int,
        count: int,
        size: int,
        out_address: int,
        layout: int,
        mean: Sequence[float] | None,
        scale: Sequence[float] | None,
        border: int,
        stream: int,
    ) -> None:
        """Makes the crops that ``count`` rows at ``crops_address`` describe, in the stream."""
        ...


class FrameStore:
    """Memory for the frames of a call; a slot a frame, which grows with the pictures and is used again.

    Args:
        buffers: where memory comes from.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._slots: list[Pair] = []
        self._in_slot: dict[int, int] = {}  # frame -> slot

    def begin(self) -> None:
        """Another call: its frames have nothing to do with those before."""
        self._in_slot.clear()

    def place(self, frames: dict[int, NDArray[np.uint8]]) -> dict[int, DeviceFrame]:
        """Sends frames to the GPU, but for those that are there since the last time; all others make room. Nothing is at work.

        Args:
            frames: by their number in the call.
        """
        self._in_slot = {number: slot for number, slot in self._in_slot.items() if number in frames}
        free = [slot for slot in range(len(self._slots) + len(frames)) if slot not in self._in_slot.values()]
        placed = {}
        for number, image in frames.items():
            there = number in self._in_slot
            slot = self._in_slot[number] if there else free.pop(0)
            pair = self._pair(slot, image.nbytes)
            if not there:
                np.copyto(pair.view(image.shape, image.dtype), image)
                self._buffers.upload(pair, image.nbytes)
                self._in_slot[number] = slot
            height, width = image.shape[:2]
            placed[number] = DeviceFrame(pair.device.address, width, height, 3 * width)
        return placed

    def _pair(self, slot: int, size: int) -> Pair:
        if slot == len(self._slots):
            self._slots.append(self._buffers.pair(size))
        elif self._slots[slot].host.size < size:
            smaller, self._slots[slot] = self._slots[slot], self._buffers.pair(size)  # where there is no room, the smaller one stays
            self._buffers.release(smaller)
        return self._slots[slot]


def pieces(counts: Sequence[int], most: int) -> Iterator[dict[int, slice]]:
    """Cuts the faces of frames into pieces of at most ``most``, in order; of each, which faces of which frames."""
    piece: dict[int, slice] = {}
    room = most
    for number, count in enumerate(counts):
        first = 0
        while first < count:
            taken = min(room, count - first)
            piece[number] = slice(first, first + taken)
            first, room = first + taken, room - taken
            if not room:
                yield piece
                piece, room = {}, most
    if piece:
        yield piece


def check_frames(frames: Sequence[Any], squares: Sequence[Any]) -> list[NDArray[np.float32]]:
    """The squares of each frame as [F, 3] float32.

    Raises:
        UsageError: another number of frames than of squares, or a frame that is none.
    """
    if len(frames) != len(squares):
        raise UsageError(f"There are {len(frames)} frames but squares for {len(squares)}; give one array of squares a frame.")
    for frame in frames:
        if isinstance(frame, DeviceFrame):
            continue
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise UsageError("A frame is uint8 [H, W, 3] BGR, or a DeviceFrame; convert it, or use Landmarker, which does.")
    return [np.asarray(s, np.float32).reshape(-1, 3) for s in squares]


def _nv12(luma: View, format: PixelFormat, chroma: View | None) -> DeviceFrame:
    if luma.dtype != np.uint8 or len(luma.shape) != 2 or luma.strides[1] != 1:
        raise UsageError(f"An NV12 frame is uint8 [H * 3 / 2, W], or its brightness [H, W] and its colour; not {_described(luma)}.")
    pitch, (rows, width) = luma.strides[0], luma.shape
    if chroma is None:
        height = rows // 3 * 2
        colour, colour_rows, colour_pitch, owner = luma.address + height * pitch, rows - height, pitch, luma.owner
    else:
        height = rows
        colour, colour_rows, colour_pitch, owner = chroma.address, chroma.shape[0], chroma.strides[0], (luma.owner, chroma.owner)
        in_pairs = chroma.shape[1:] == (width // 2, 2) and chroma.strides[1:] == (2, 1)
        if chroma.dtype != np.uint8 or not (in_pairs or (chroma.shape[1:] == (width,) and chroma.strides[1:] == (1,))):
            raise UsageError(f"The colour of this NV12 frame is uint8 [{height // 2}, {width // 2}, 2], not {_described(chroma)}.")
        if chroma.stream != luma.stream:
            raise UsageError("Brightness and colour of an NV12 frame are ready in different streams; give both from one.")
    if width % 2 or height != 2 * colour_rows:
        raise UsageError(f"An NV12 frame has even sides, and half as many rows of colour, not {rows} x {width} and {colour_rows} rows.")
    return DeviceFrame(luma.address, width, height, pitch, format, colour, colour_pitch, luma.stream, owner)


def _described(view: View) -> str:
    return f"{view.dtype} {list(view.shape)}" + ("" if view.contiguous else " with gaps")
