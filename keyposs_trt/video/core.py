"""The heart of a pipeline: one frame each of several streams, through detector and network together."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from keyposs_trt.errors import KeypossError
from keyposs_trt.video.tracking import Detect, Locate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from keyposs_trt.detection import Detections, Detector
    from keyposs_trt.landmarker import Lap
    from keyposs_trt.landmarks import Landmarks
    from keyposs_trt.video.contract import Frame
    from keyposs_trt.video.finders import Answer, Finder
    from keyposs_trt.video.statistics import Stage, StreamStatistics
    from keyposs_trt.video.tracking import Step

_log = logging.getLogger(__name__)


class BatchLandmarker(Protocol):
    """What the core needs of a ``Landmarker``."""

    @property
    def detector(self) -> Detector | None: ...
    def batch(
        self, images: Sequence[NDArray], boxes: Sequence[NDArray] | None = None, *, lap: Lap | None = None
    ) -> list[list[Landmarks]]: ...


class Job(Protocol):
    """A stream, as far as the core knows it."""

    @property
    def finder(self) -> Finder: ...
    @property
    def statistics(self) -> StreamStatistics: ...


@dataclass(slots=True)
class _Open:
    """A frame being worked on, the request its finder waits for, None when it is done, and the seconds the finder took so far."""

    job: Job
    frame: Frame
    step: Step
    request: Locate | Detect | None
    tracking: float = 0.0
    faces: Sequence[Landmarks] = ()
    error: str | None = None


class Core:
    """Finds the faces of frames; one call takes at most one frame of each stream.

    The crops of all streams go through the network in one batch. A frame that cannot be worked on costs nobody else's
    result, and its finder stays where it was.

    Args:
        landmarker: the network and the detector; the detector may be None where no finder asks for it.
        meanwhile: called when the network is about to run.
    """

    def __init__(self, landmarker: BatchLandmarker, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._landmarker = landmarker
        self._meanwhile = meanwhile

    def __call__(self, frames: Sequence[tuple[Job, Frame]]) -> list[tuple[Sequence[Landmarks], str | None]]:
        """The faces of each frame, and the sentence of the error that kept them from being found, or None."""
        work = [self._begin(job, frame) for job, frame in frames]
        while any(w.request is not None for w in work):
            self._detect([w for w in work if isinstance(w.request, Detect)])
            self._locate([w for w in work if isinstance(w.request, Locate)])
        return [(w.faces, w.error) for w in work]

    def _begin(self, job: Job, frame: Frame) -> _Open:
        height, width = frame.image.shape[:2]
        opened = _Open(job, frame, job.finder.step((width, height), frame.time), None)
        self._advance(opened, None)
        return opened

    def _advance(self, opened: _Open, answer: Answer | None) -> None:
        """Hands an answer to the finder, up to its next request or its result."""
        start = time.perf_counter()
        try:
            opened.request = next(opened.step) if answer is None else opened.step.send(answer)
        except StopIteration as done:
            opened.request, opened.faces = None, done.value
        except Exception as e:  # noqa: BLE001 (whatever a finder stumbles over, the stream goes on)
            self._fail(opened, e)
        opened.tracking += time.perf_counter() - start
        if opened.request is None:
            opened.job.statistics.time("track", opened.tracking)

    def _fail(self, opened: _Open, error: Exception) -> None:
        opened.step.close()
        opened.request, opened.faces = None, ()
        opened.error = str(error) if isinstance(error, KeypossError) else f"unexpected {type(error).__name__}: {error}"
        _log.debug("a frame could not be worked on", exc_info=error)

    def _detect(self, waiting: Sequence[_Open]) -> None:
        for opened in waiting:
            start = time.perf_counter()
            try:
                found = self._detector_on(opened.frame)
            except Exception as e:  # noqa: BLE001 (a detector of the user's may raise anything; one frame is lost)
                self._fail(opened, e)
                continue
            opened.job.statistics.time("detect", time.perf_counter() - start)
            opened.job.statistics.add("detections")
            self._advance(opened, found)

    def _detector_on(self, frame: Frame) -> Detections:
        if self._landmarker.detector is None:
            raise TypeError("there is no detector")
        return self._landmarker.detector(frame.image)

    def _locate(self, waiting: Sequence[_Open]) -> None:
        if not waiting:
            return
        try:
            found = self._landmarks(waiting)
        except Exception as e:  # noqa: BLE001 (as above; a runtime may raise anything)
            if len(waiting) == 1:
                self._fail(waiting[0], e)
            else:  # which of them it was shows when each goes alone
                for opened in waiting:
                    self._locate([opened])
            return
        for opened, faces in zip(waiting, found, strict=True):
            self._advance(opened, faces)

    def _landmarks(self, waiting: Sequence[_Open]) -> list[list[Landmarks]]:
        def lap(stage: Stage, seconds: float) -> None:
            for opened in waiting:
                opened.job.statistics.time(stage, seconds / len(waiting))
            if stage == "crop":
                self._meanwhile()

        boxes = [w.request.boxes for w in waiting if isinstance(w.request, Locate)]
        return self._landmarker.batch([w.frame.image for w in waiting], boxes, lap=lap)
