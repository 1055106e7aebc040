"""A fake of PyNvVideoCodec and of the CUDA driver.

It has the names, arguments, order of calls and texts of errors of PyNvVideoCodec 2.2.4, as read from its wheel: the sources and
samples in Python, and the signatures of the compiled module, which was also run against a driver that decodes nothing. What it takes from
there and the code here relies on: the demuxer's last packet is empty (``bsl`` 0); frames lie in the decoder's memory until its next
call; time stamps count in the time base; codecs a GPU lacks show in ``GetDecoderCaps`` alone; and without a driver, a GPU or room for
its context it ends the process, wherefore a fake of the CUDA driver stands in front.
"""

from __future__ import annotations

import importlib.machinery
import threading
import types
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


H, W, COUNT = 48, 64, 6
CAPS = {"supported": 1, "width_min": 48, "width_max": 4096, "height_min": 16, "height_max": 4096, "num_decoder_engines": 1}
NO_PTS = -(1 << 63)


class PyNvVCException(Exception):  # noqa: N818 (its name)
    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where} : \nError code : 100\nError Type : {what}\nat /project/src/{where}.cpp:1\n")


class Gpu:
    """What the fakes share: what they do, when they fail, what they hold."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail = ""  # the call that fails
        self.fail_at = 1  # at which time
        self.cuda: dict[str, int] = {}  # results of the driver's calls that are not 0
        self.devices, self.contexts = 1, 0
        self.caps = dict(CAPS)
        self.pts = [512 * i for i in range(COUNT)]
        self.sizes = [(H, W)] * COUNT
        self.shown = COUNT
        self.given: list[int] | None = None  # time stamps that frames get, other than those of the packets
        self.held: set[str] = set()
        self.blocking: threading.Event | None = None
        self.reached = threading.Event()

    def call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fail and self.calls.count(name) == self.fail_at:
            if name == "GetDecoderCaps":  # the first to need the library
                raise RuntimeError("Failed to open dynamic library: cuvid: libnvcuvid.so.1\nCould not dynamically load it!")
            raise PyNvVCException(name, f"{name} returned error 100")


def picture(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """[H, W, 3] in RGB: the top left corner is red, the rest tells the number."""
    image = np.full((*size, 3), (0, 10 * number, 200), np.uint8)
    image[:16, :16] = 255, 0, 0
    return image


class FakeFrame:
    def __init__(self, gpu: Gpu, buffer: NDArray[np.uint8], pts: int) -> None:
        self._gpu, self._buffer, self._pts = gpu, buffer, pts
        gpu.held.add(f"frame {id(self)}")

    @property
    def shape(self) -> list[int]:
        return list(self._buffer.shape)

    def framesize(self) -> int:
        self._gpu.call("framesize")
        return self._buffer.nbytes

    def GetPtrToPlane(self, index: int, /) -> int:
        self._gpu.call("GetPtrToPlane")
        assert index == 0
        return self._buffer.ctypes.data

    def getPTS(self) -> int:
        self._gpu.call("getPTS")
        return self._pts

    def __del__(self) -> None:
        assert "decoder" in self._gpu.held, "a frame outlived its decoder"
        self._gpu.held.discard(f"frame {id(self)}")


class FakeDecoder:
    """Two frames late, and with buffers that the next call overwrites."""

    def __init__(self, gpu: Gpu) -> None:
        assert gpu.contexts == 1, "no context was held: the real one would have ended the process"
        self._gpu, self._waiting, self._number = gpu, [], 0
        self._buffers: list[NDArray[np.uint8]] = []
        gpu.held.add("decoder")

    def Decode(self, packet: types.SimpleNamespace, /) -> list[FakeFrame]:
        gpu = self._gpu
        gpu.call("Decode")
        if gpu.blocking is not None and self._number == 1:
            gpu.reached.set()
            gpu.blocking.wait(30)
        for buffer in self._buffers:
            buffer[:] = 77
        if packet.bsl:
            self._waiting.append(packet.pts)
        ready, self._waiting = (self._waiting[:1], self._waiting[1:]) if packet.bsl and len(self._waiting) > 2 else ([], self._waiting)
        if not packet.bsl:
            ready, self._waiting = self._waiting, []
        frames = []
        for pts in ready:
            if self._number < gpu.shown:
                self._buffers.append(picture(self._number, gpu.sizes[self._number]))
                frames.append(FakeFrame(gpu, self._buffers[-1], gpu.given[self._number] if gpu.given else pts))
            self._number += 1
        return frames

    def SyncOnCUStream(self) -> None:
        self._gpu.call("SyncOnCUStream")

    def __del__(self) -> None:
        self._gpu.held.discard("decoder")
        assert self._gpu.contexts == 1, "the context was given back before the decoder"


class FakeDemuxer:
    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._at = gpu, 0
        gpu.held.add("demuxer")

    def __getattr__(self, name: str) -> Callable[[], Any]:
        values = {"FrameRate": 10.0, "GetTimebaseNum": 1, "GetTimebaseDen": 5120, "BitDepth": 8, "ChromaFormat": 1, "Width": W, "Height": H}
        if name == "GetNvCodecId":
            values[name] = types.SimpleNamespace(name="H264")  # type: ignore[assignment]
        if name not in values:
            raise AttributeError(name)

        def method() -> Any:
            self._gpu.call(name)
            return values[name]

        return method

    def __iter__(self) -> FakeDemuxer:
        return self

    def __next__(self) -> types.SimpleNamespace:
        self._gpu.call("next")
        self._at += 1
        if self._at > len(self._gpu.pts) + 1:
            raise StopIteration
        if self._at > len(self._gpu.pts):
            return types.SimpleNamespace(bsl=0, pts=0)
        return types.SimpleNamespace(bsl=100, pts=self._gpu.pts[self._at - 1])

    def __del__(self) -> None:
        self._gpu.held.discard("demuxer")


class FakeCuda:
    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def cuInit(self, flags: int) -> int:
        return self._gpu.cuda.get("cuInit", 0)

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._gpu.devices
        return self._gpu.cuda.get("cuDeviceGetCount", 0)

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = number
        return self._gpu.cuda.get("cuDeviceGet", 0)

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        result = self._gpu.cuda.get("cuDevicePrimaryCtxRetain", 0)
        self._gpu.contexts += not result
        return result

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self._gpu.contexts -= 1
        return 0


def fake_module(gpu: Gpu) -> types.ModuleType:
    module = types.ModuleType("PyNvVideoCodec")
    module.__spec__ = importlib.machinery.ModuleSpec("PyNvVideoCodec", None)

    def CreateDemuxer(filename: str) -> FakeDemuxer:
        gpu.call("CreateDemuxer")
        return FakeDemuxer(gpu)

    def GetDecoderCaps(gpuid: int = 0, codec: Any = None, chromaformat: Any = 1, bitdepth: int = 8) -> dict[str, int]:
        gpu.call("GetDecoderCaps")
        assert (gpuid, codec.name, chromaformat, bitdepth) == (0, "H264", 1, 8)
        return gpu.caps

    def CreateDecoder(gpuid: int = 0, codec: Any = None, usedevicememory: bool = False, outputColorType: Any = "native") -> FakeDecoder:
        gpu.call("CreateDecoder")
        assert (gpuid, codec.name, usedevicememory, outputColorType) == (0, "H264", False, "rgb")
        return FakeDecoder(gpu)

    module.__dict__.update(CreateDemuxer=CreateDemuxer, GetDecoderCaps=GetDecoderCaps, CreateDecoder=CreateDecoder)
    module.__dict__["OutputColorType"] = types.SimpleNamespace(NATIVE="native", RGB="rgb", RGBP="rgbp")
    return module
