"""One connection to a camera or stream, as the classes that read them and those that keep them alive see it."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from keyposs_trt.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.video.contract import Event

DEFAULT_FPS = 25.0

# Whether anybody still waits for the feed that this thread opens: one that is not open yet cannot be interrupted, but may ask.
wanted: ContextVar[Callable[[], bool]] = ContextVar("wanted", default=lambda: True)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What one read gave.

    Attributes:
        image: [H, W, 3] uint8 BGR, or None for a frame that was there but cannot be decoded.
        arrived: ``time.monotonic()`` when it was there.
        stamp: its time in seconds by the clock of the source, or None.
    """

    image: NDArray[np.uint8] | None
    arrived: float
    stamp: float | None = None


class BrokenError(InputError):
    """A feed that cannot be opened or read on; the text is the reason, as a part of a sentence.

    Attributes:
        remedy: what to do about it, as the end of that sentence; empty for the usual.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


class Feed(Protocol):
    """An open connection. One thread opens, reads and closes it; another may interrupt it.

    Attributes:
        fps: frames a second; ``DEFAULT_FPS`` where nobody knows.
        count: number of frames, or None.
        live: frames come in real time, and an end is a loss.
        notes: what the user should know about this connection.
    """

    @property
    def fps(self) -> float: ...
    @property
    def count(self) -> int | None: ...
    @property
    def live(self) -> bool: ...
    @property
    def notes(self) -> Sequence[Event]: ...

    def read(self) -> Picture | None:
        """The next frame, or None at the end; blocks.

        Raises:
            BrokenError: the connection is lost.
        """
        ...

    def interrupt(self) -> None:
        """Makes ``read`` return or raise soon, where that can be done; does nothing once it is closed."""
        ...

    def close(self) -> None: ...


def plausible_fps(fps: float) -> float:
    """The frame rate, or ``DEFAULT_FPS`` for the nonsense that some cameras and containers state."""
    return float(fps) if math.isfinite(fps) and 0.01 <= fps <= 1000 else DEFAULT_FPS


def breaks_off(count: int | None, fps: float, frames: int, last: float) -> bool:
    """Whether the end of a video is missing: frames and seconds both, since containers estimate one or the other.

    Args:
        count: frames that the container states.
        fps: frames a second.
        frames: frames that were read.
        last: time of the last of them, in seconds.
    """
    if count is None:
        return False
    length = count / fps
    return frames < count - 1 and length - (last + 1 / fps) > min(1.0, 0.2 * length)
