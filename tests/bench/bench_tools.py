"""Stand-ins for the tests of the benchmark: a clock that goes by itself, a detector, pictures, a runner that tells its steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from model_zoo import tiny_spec

from keyposs_trt.bench.subject import READ
from keyposs_trt.detection import Detections
from keyposs_trt.engine.runner import Outputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from keyposs_trt.bench.stopwatch import Stopwatch

ROOT = Path(__file__).resolve().parents[2]
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
SIDE = 64


class FakeClock:
    """Every look at it takes a second, and ``spend`` adds some."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


def finder(faces: int = 1) -> Callable[[NDArray[np.uint8]], Detections]:
    """A detector that always finds so many faces in the middle of a picture."""
    boxes = np.tile(np.array([[16, 16, 48, 48]], np.float32), (faces, 1))
    return lambda image: Detections(boxes, np.linspace(0.9, 0.5, faces, dtype=np.float32))


class Pictures:
    """A source of black pictures; those of the given numbers show no face, for a detector that looks at the first pixel."""

    stage, name = "decode video", "black.mp4"

    def __init__(self, kind: str = "image", without: tuple[int, ...] = ()) -> None:
        self.kind, self.without, self.count = kind, without, 0

    def next(self, watch: Stopwatch) -> NDArray[np.uint8]:
        watch.skip()
        image = np.full((SIDE, SIDE, 3), 0 if self.count in self.without else 200, np.uint8)
        self.count += 1
        watch.lap(READ)
        return image

    def close(self) -> None: ...


def finder_of_light(image: NDArray[np.uint8]) -> Detections:
    """One face in a light picture, none in a dark one."""
    return finder(1 if image[0, 0, 0] else 0)(image)


class StepsRunner:
    """A runner as an engine's: it tells its steps, twice over for calls of more than two crops."""

    backend = "tensorrt"

    def __init__(self, decoder: str = "wls", clock: FakeClock | None = None) -> None:
        self.spec = tiny_spec(decoder=decoder)
        self.clock = clock

    def __call__(self, crops: NDArray[np.uint8]) -> Outputs:
        zeros: Any = np.zeros((len(crops), self.spec.points, 3), np.float32)
        return Outputs(zeros[..., :2], zeros[..., 0], zeros)

    def in_steps(self, crops: NDArray[np.uint8], lap: Callable[[str], object]) -> Outputs:
        for _ in range(0, len(crops), 2):
            for seconds, step in ((10, "copy in"), (100, "network"), (1000, "copy out")):
                if self.clock is not None:
                    self.clock.spend(seconds)
                lap(step)
        return self(crops)

    def close(self) -> None: ...
