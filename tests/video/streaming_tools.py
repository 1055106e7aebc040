"""Stand-ins for the tests of the pipeline: sources whose frames are numbers, and a landmarker that reads them."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.detection import Detections
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.contract import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOX = np.array([[10, 10, 50, 50]], np.float32)
FACE = np.array([[12, 12], [48, 12], [30, 30], [20, 48], [40, 48]], np.float32)


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


def video(name: str = "clip.mp4") -> Source:
    return Source("video", name)


def camera(name: str = "0") -> Source:
    return Source("camera", name)


class Numbers:
    """Frames whose pixels hold their number; ``gate`` is called before each, and may wait or raise."""

    def __init__(self, count: int = 5, *, live: bool = False, fps: float = 25.0, gate: Callable[[int], object] = lambda _: None) -> None:
        self.count, self.live, self.fps = None if live else count, live, fps
        self._frames, self._gate = count, gate
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self._frames):
            self._gate(i)
            if self.closed.is_set():
                return
            yield Frame(np.full((60, 80, 3), i % 256, np.uint8), i, i / self.fps, time.monotonic())

    def close(self) -> None:
        self.closed.set()


class Finds:
    """A landmarker and its detector: one face everywhere; counts its calls and the pictures in each.

    ``trouble(image)`` may raise, or wait.
    """

    def __init__(self, trouble: Callable[[np.ndarray], object] = lambda _: None, *, detects: bool = True) -> None:
        self.spec = SimpleNamespace(lost_score=0.1)
        self.scheme = SimpleNamespace(name="300w")
        self.batches: list[int] = []
        self.detections = 0
        self.closed = False
        self._trouble = trouble
        self.detector = self._detect if detects else None

    def _detect(self, image: np.ndarray) -> Detections:
        self.detections += 1
        return Detections(BOX, np.ones(1, np.float32))

    def batch(self, images: Any, boxes: Any = None, *, lap: Callable[[Any, float], object] | None = None) -> list[list[Landmarks]]:
        self.batches.append(len(images))
        for image in images:
            self._trouble(image)
        if lap:
            lap("crop", 0.001)
            lap("infer", 0.002)
        return [[self._face(box) for box in some] for some in boxes]

    @staticmethod
    def _face(box: np.ndarray) -> Landmarks:
        points = np.tile(FACE, (14, 1))[:68]
        return Landmarks(points, np.ones(68, np.float32), np.full((68, 3), 0.1, np.float32), box, 1.0, "300w")

    def close(self) -> None:
        self.closed = True


class Keeps:
    """A sink that remembers; ``trouble(result)`` may raise or wait."""

    def __init__(self, trouble: Callable[[Any], object] = lambda _: None, *, draws: bool = False) -> None:
        self.draws = draws
        self.results: list[Any] = []
        self.drawn: list[Any] = []
        self.state = "new"
        self.error: object = None
        self._trouble = trouble

    @property
    def numbers(self) -> list[int]:
        return [r.frame.index for r in self.results]

    def __enter__(self) -> Keeps:
        self.state = "open"
        return self

    def write(self, result: Any, drawn: Any) -> None:
        self._trouble(result)
        self.results.append(result)
        self.drawn.append(drawn)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.state, self.error = "closed", error


def sinks(table):
    """A factory that makes a ``Keeps`` for every source, and puts it into the table."""

    def of(source, number, frames):
        table[source.name] = Keeps()
        return [table[source.name]]

    return of


def alive(name: str) -> int:
    return sum(t.name == name for t in threading.enumerate())


def raises_at(number, error):
    def trouble(result):
        if result.frame.index >= number:  # of a live source, any frame may be left out
            raise error

    return trouble
