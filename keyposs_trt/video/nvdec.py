"""Video files through PyNvVideoCodec: an NVIDIA GPU decodes, and the pictures come to the host.

Its demuxer and core decoder are used, not its SimpleDecoder: these alone tell the time base of the time stamps. Files only: the demuxer
opens addresses too, but takes neither a time-out nor options, so that a camera that hangs could not be left.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import time
from collections import deque
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from keyposs_trt.errors import InputError
from keyposs_trt.video.capture import frame_count
from keyposs_trt.video.clocks import FileClock
from keyposs_trt.video.decoders import NotInstalledError
from keyposs_trt.video.feeds import BrokenError, Picture, breaks_off, plausible_fps
from keyposs_trt.video.streams import Label, Patience, StreamFrames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import Event, Report

_T = TypeVar("_T")

_MODULE = "PyNvVideoCodec"
_LEVEL = "LOGGER_LEVEL"
_GPU = 0  # the first that CUDA_VISIBLE_DEVICES leaves
_DRIVER = "check nvidia-smi, and in a container NVIDIA_DRIVER_CAPABILITIES=compute,video,utility"
_OTHER = "leave decoder=nvdec out, or convert it to 8-bit H.264"
_AGAIN = "copy it again, or leave decoder=nvdec out"


def open_nvdec(path: str, report: Report) -> StreamFrames:
    """A video file, decoded by the GPU; its first frame has been.

    Raises:
        NotInstalledError: there is no PyNvVideoCodec.
        BrokenError: there is no GPU, it does not decode this, or nothing comes of it. Nothing has been reported.
    """
    if find_spec(_MODULE) is None:
        raise NotInstalledError(f"there is no {_MODULE}", "pip install 'keyposs-trt[nvdec]'")
    failures: list[tuple[str, str]] = []

    def connect() -> NvdecFeed:
        try:
            return NvdecFeed(path)
        except BrokenError as e:
            failures.append((str(e), e.remedy))
            raise

    try:
        return StreamFrames(Label(f"The video '{path}'", _AGAIN, _AGAIN), connect, report, Patience(timeout=60.0))
    except InputError:
        raise BrokenError(*(failures[0] if failures else (f"{_MODULE} gives no answer", _DRIVER))) from None


class NvdecFeed:
    """The pictures of a video file as PyNvVideoCodec decodes them, turned upright where the metadata say so. See ``Feed``.

    One thread opens, reads and closes it. Its time stamps are those of the container, from 0 at the first picture.

    Raises:
        BrokenError: this machine or this file does not do; with a remedy.
    """

    live = False
    notes: Sequence[Event] = ()

    def __init__(self, path: str) -> None:
        self.count, self._turn = _container(path)
        self._interrupted = False
        self._ended = False
        self._ready: deque[Any] = deque()  # frames in the decoder's buffers, which its next call overwrites
        self._demuxer = self._decoder = None
        self._stamps: set[int] = set()
        self._zero: int | None = None
        self._frames, self._last = 0, 0.0
        self._context = PrimaryContext()
        try:
            _anew(lambda: self._open(path))
            self._first = _anew(self._next)
            if self._first is None:
                raise BrokenError(f"{_MODULE} gives no picture of it", _OTHER)
        except BaseException:
            self.close()
            raise

    def read(self) -> Picture | None:
        picture, self._first = self._first or _anew(self._next), None
        if picture is None:
            if not self._interrupted and breaks_off(self.count, self.fps, self._frames, self._last):
                raise BrokenError(f"of {self.count} the rest is missing")
            return None
        self._frames += 1
        self._last = self._clock.time(picture.stamp)
        return picture

    def interrupt(self) -> None:
        """The read ends with the packet that is being decoded."""
        self._interrupted = True

    def close(self) -> None:
        self._first = None
        # Frames lie in the decoder, and the decoder in the context: from the inside out.
        self._ready.clear()
        self._decoder = None
        self._demuxer = None
        self._context.close()

    def _open(self, path: str) -> None:
        try:
            nvc = _load()
            demuxer = nvc.CreateDemuxer(filename=path)
            self.fps, self._clock = (fps := plausible_fps(demuxer.FrameRate())), FileClock(fps)
            self._second = demuxer.GetTimebaseNum() / demuxer.GetTimebaseDen()
            codec, chroma, bits = demuxer.GetNvCodecId(), demuxer.ChromaFormat(), demuxer.BitDepth()
            _check_caps(nvc.GetDecoderCaps(gpuid=_GPU, codec=codec, chromaformat=chroma, bitdepth=bits), codec, bits, demuxer)
            decoder = nvc.CreateDecoder(gpuid=_GPU, codec=codec, usedevicememory=False, outputColorType=nvc.OutputColorType.RGB)
        except BrokenError:
            raise
        except Exception as e:
            raise BrokenError(f"{_MODULE} says: {_reason(e)}", _DRIVER) from e
        self._demuxer, self._decoder = demuxer, decoder

    def _next(self) -> Picture | None:
        """The next picture, or None at the end and when interrupted."""
        while not self._ready:
            if self._ended or self._interrupted:
                return None
            self._decode()
        frame = self._ready.popleft()
        try:
            image, pts = _bgr(frame), frame.getPTS()
        except BrokenError:
            raise
        except Exception as e:
            raise BrokenError(_reason(e), _AGAIN) from e
        return Picture(image if self._turn is None else _turned(image, self._turn), time.monotonic(), self._stamp(pts))

    def _decode(self) -> None:
        """Hands one packet to the decoder; the last of a file is empty, and gets out what is still in there."""
        assert self._demuxer is not None
        assert self._decoder is not None
        try:
            packet = next(self._demuxer, None)
            if packet is None:
                self._ended = True
                return
            if packet.bsl:
                self._stamps.add(packet.pts)
            self._ready.extend(self._decoder.Decode(packet))
            if self._ready:
                self._decoder.SyncOnCUStream()
        except Exception as e:
            raise BrokenError(_reason(e), _AGAIN) from e

    def _stamp(self, pts: int) -> float | None:
        """Seconds since the first picture. Where a packet has no time stamp the driver makes one up, which is not used."""
        if pts not in self._stamps or pts < -(1 << 62):
            return None
        self._stamps = {p for p in self._stamps if p > pts}  # pictures come in the order of their time
        if self._zero is None:
            self._zero = pts
        return (pts - self._zero) * self._second


class PrimaryContext:
    """A hold on the GPU's primary context.

    PyNvVideoCodec ends the whole process, and raises nothing, where there is no driver, no GPU, or no memory for its context. While
    this hold succeeded and lasts, the same calls of PyNvVideoCodec cannot fail.

    Raises:
        BrokenError: there is no driver, no GPU, or the GPU is full.
    """

    def __init__(self) -> None:
        self._cuda: Any = None
        try:
            cuda = load_cuda()
        except OSError:
            raise BrokenError("there is no NVIDIA driver here", _DRIVER) from None
        count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value <= _GPU:
            raise BrokenError("CUDA finds no GPU", _DRIVER)
        if cuda.cuDeviceGet(ctypes.byref(device), _GPU) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
            raise BrokenError("the GPU has no room for another program", "free GPU memory")
        self._cuda, self._device = cuda, device

    def close(self) -> None:
        cuda, self._cuda = self._cuda, None
        if cuda is not None:
            cuda.cuDevicePrimaryCtxRelease_v2(self._device)


def _anew(call: Callable[[], _T]) -> _T:
    """Calls, and raises a BrokenError anew: the traceback of the first would hold frames and the decoder for as long as it lives."""
    try:
        return call()
    except BrokenError as e:
        reason, remedy = str(e), e.remedy
    raise BrokenError(reason, remedy)


def _load() -> Any:
    """PyNvVideoCodec; its warnings, which it would write among the results on the standard output, stay away.

    It looks at LOGGER_LEVEL once, when it is loaded.
    """
    quiet = _LEVEL not in os.environ
    if quiet:
        os.environ[_LEVEL] = "ERROR"
    try:
        return importlib.import_module(_MODULE)
    finally:
        if quiet:
            os.environ.pop(_LEVEL, None)


def load_cuda() -> Any:
    """The CUDA driver.

    Raises:
        OSError: there is none.
    """
    return ctypes.CDLL("libcuda.so.1")


def _container(path: str) -> tuple[int | None, int | None]:
    """The number of frames, and the flag of cv2.rotate that turns them upright: PyNvVideoCodec tells neither."""
    import cv2

    capture = cv2.VideoCapture(path)
    try:
        if not capture.isOpened():
            raise BrokenError("FFmpeg finds no video in it", "copy it again, or convert it to MP4")
        angle = round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
        flags = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
        return frame_count(capture), flags.get(angle)
    finally:
        capture.release()


def _check_caps(caps: dict[str, int], codec: object, bits: int, demuxer: Any) -> None:
    """Raises BrokenError unless the GPU decodes this: the decoder itself would be created, and then give nothing."""
    name = getattr(codec, "name", str(codec))
    if not caps["supported"]:
        raise BrokenError(f"this GPU decodes no {name} of {bits} bits in this colour format", _OTHER)
    width, height = demuxer.Width(), demuxer.Height()
    if not (caps["width_min"] <= width <= caps["width_max"] and caps["height_min"] <= height <= caps["height_max"]):
        raise BrokenError(f"this GPU decodes no {name} of {width}x{height} pixels", _OTHER)


def _bgr(frame: Any) -> NDArray[np.uint8]:
    """[H, W, 3], copied out of the decoder's buffer, which holds rows of RGB without gaps."""
    import cv2
    import numpy as np

    shape, size = tuple(frame.shape), frame.framesize()
    if len(shape) != 3 or shape[2] != 3 or size != shape[0] * shape[1] * 3:
        raise BrokenError(f"{_MODULE} gives pictures of shape {shape} where RGB was asked for", _OTHER)
    data = (ctypes.c_uint8 * size).from_address(frame.GetPtrToPlane(0))
    return np.asarray(cv2.cvtColor(np.frombuffer(data, np.uint8).reshape(shape), cv2.COLOR_RGB2BGR), np.uint8)


def _turned(image: NDArray[np.uint8], flag: int) -> NDArray[np.uint8]:
    import cv2
    import numpy as np

    return np.asarray(cv2.rotate(image, flag), np.uint8)


def _reason(error: Exception) -> str:
    """What the exception says, in one line: PyNvVideoCodec's have several, among them the path of its own source."""
    text = str(error).strip()
    found = re.search(r"Error Type : ([^\n]+)", text)
    line = found[1] if found else text.partition("\n")[0]
    return line.strip().rstrip(".") or type(error).__name__
