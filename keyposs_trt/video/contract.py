"""What the parts of the runtime hand to each other: sources give frames, the pipeline makes results of them, sinks take these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from keyposs_trt.landmarks import Landmarks

SourceKind = Literal["image", "video", "camera", "csi", "rtsp", "http", "test"]
EventKind = Literal["lost", "resumed", "corrupt", "resized", "clock", "fallback"]


@dataclass(frozen=True)
class Source:
    """One picture, video file, camera or stream.

    Attributes:
        kind: what it is.
        name: the path, the number or device of a camera, or the address of a stream, with no password in it.
        address: what is opened where that differs from the name: an address with its password; not shown.
        options: options of the address, such as ("transport", "tcp"), in order of their names.
    """

    kind: SourceKind
    name: str
    address: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        image: [H, W, 3] uint8, BGR; nobody writes into it.
        index: number of the frame in its source, from 0; it goes on after a stream was lost and came back.
        time: seconds since the start of the source, by its own time stamps where it has them; 0 for an image.
        captured: ``time.monotonic()`` of the moment it was there.
    """

    image: NDArray[np.uint8]
    index: int
    time: float
    captured: float = 0.0


@dataclass(frozen=True)
class Event:
    """Something that happened to a source which goes on.

    Attributes:
        kind: ``lost`` and ``resumed`` of a stream, ``corrupt`` for frames that could not be decoded, ``resized`` for another size of
            picture, ``clock`` for time stamps that jumped, ``fallback`` for a decoder or backend that was replaced by another.
        text: one sentence for the user.
        count: how many, of frames that are corrupt.
        seconds: length of the gap, of a stream that resumed.
    """

    kind: EventKind
    text: str
    count: int = 1
    seconds: float = 0.0


Report = Callable[[Event], object]


class Frames(Protocol):
    """An open source: iterate over it once, then close it; ``close`` may be called by another thread, and ends the iteration soon.

    Attributes:
        count: number of frames, or None where nobody knows; containers may be a little wrong.
        fps: frames a second.
        live: frames come in real time and without end.
    """

    @property
    def count(self) -> int | None: ...
    @property
    def fps(self) -> float: ...
    @property
    def live(self) -> bool: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """What was found in one frame.

    Attributes:
        source: where the frame is from.
        stream: number of the source among those of the pipeline, from 0.
        frame: the frame.
        faces: its faces, in image pixels; followed ones first.
        scheme: name of the landmark scheme.
        error: a sentence where the frame could not be worked on; it then has no faces.
    """

    source: Source
    stream: int
    frame: Frame
    faces: Sequence[Landmarks]
    scheme: str
    error: str | None = None


class Sink(Protocol):
    """Takes the results of one stream, in order, from one thread at a time; a context manager that finishes its file at the end.

    Attributes:
        draws: whether ``write`` wants the picture with the faces drawn on it.
    """

    @property
    def draws(self) -> bool: ...

    def write(self, result: FrameResult, drawn: NDArray[np.uint8] | None) -> None:
        """Takes a result, and the drawn picture [H, W, 3] uint8 BGR where ``draws``.

        Raises:
            OutputError: it cannot be written. The stream goes on without this sink.
        """
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
