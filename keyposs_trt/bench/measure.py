"""The measurement itself: models take turns, pass by pass (A B A B ...), so that the machine's moods fall on all alike."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyposs_trt.bench.stopwatch import Percentiles, Stopwatch, once
from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.video.tracking import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.bench.pictures import Pictures
    from keyposs_trt.bench.stopwatch import Clock
    from keyposs_trt.bench.subject import Subject

END_TO_END = "end to end"
FOLLOWED = "end to end, faces followed"
BATCHES = (1, 2, 4, 8, 16)
LARGEST_BATCH = 1024
_FEWEST = 20  # calls of the largest batch, if so many passes were asked for


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        repeat: passes that count.
        warm_up: passes before them that do not.
        threads: CPU threads of OpenCV while it is measured; those of the models are set when they are opened.
        batches: faces in one call of the model, each size by itself; none for no sweep.
    """

    repeat: int = 200
    warm_up: int = 10
    threads: int = 1
    batches: tuple[int, ...] = BATCHES

    def __post_init__(self) -> None:
        for name, value, least in (("repeat", self.repeat, 1), ("warm_up", self.warm_up, 0), ("threads", self.threads, 1)):
            if value < least:
                raise UsageError(f"A benchmark cannot have {name} = {value}; give at least {least}.")
        for batch in self.batches:
            if not 1 <= batch <= LARGEST_BATCH:
                raise UsageError(f"A batch of {batch} cannot be timed; give 1 to {LARGEST_BATCH} faces.")

    def calls(self, batch: int) -> int:
        """How often a batch is timed: fewer of the larger ones, so that each size takes about as long."""
        return max(min(self.repeat, _FEWEST), self.repeat // batch)

    @property
    def ticks(self) -> int:
        """Passes of all kinds, for a progress bar."""
        return (self.warm_up + self.repeat) * (2 if self.batches else 1)


@dataclass
class Measured:
    """What was measured of one model.

    Attributes:
        subject: the model.
        passes: for each pass the seconds of its stages, and of the whole under ``END_TO_END`` (and ``FOLLOWED``, of a video).
        faces: number of faces in each pass.
        batches: faces in a call -> seconds of each call.
    """

    subject: Subject
    passes: list[dict[str, float]] = field(default_factory=list)
    faces: list[int] = field(default_factory=list)
    batches: dict[int, list[float]] = field(default_factory=dict)

    def seconds(self, *names: str) -> list[float]:
        """Of the passes that had one of the stages at all: the sum of them."""
        return [sum(p.get(name, 0.0) for name in names) for p in self.passes if any(name in p for name in names)]

    def figures(self, *names: str) -> Percentiles | None:
        """Percentiles of a stage, or of the sum of several; None where it did not occur."""
        seconds = self.seconds(*names)
        return Percentiles.of(seconds) if seconds else None


@dataclass(frozen=True)
class Result:
    """A whole benchmark.

    Attributes:
        plan: what was asked for.
        kind: ``image`` or ``video``.
        source: name of the file.
        read: what reading a picture is called.
        size: width and height of the pictures.
        models: what was measured, in the order the models took their turns.
    """

    plan: Plan
    kind: str
    source: str
    read: str
    size: tuple[int, int]
    models: list[Measured]


def bench(
    pictures: Pictures,
    subjects: Sequence[Subject],
    plan: Plan,
    tick: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> Result:
    """Measures models on the same pictures, in turns.

    In each pass a picture is read once; then each model goes from that picture to landmarks as its users call it, which is the end to end
    time, and once more stage by stage. Percentiles of a stage that needs a face are over the pictures that have one.

    Args:
        pictures: where the pictures come from.
        subjects: the models, one or several.
        plan: how much is measured.
        tick: called after every pass.
        clock: gives seconds.

    Raises:
        InputError: no picture has a face, or the source cannot be read.
    """
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(plan.threads)
    try:
        models = [Measured(subject) for subject in subjects]
        image = _pass_by_pass(pictures, models, plan, tick, clock)
        _sweep(models, image, plan, tick, clock)
    finally:
        cv2.setNumThreads(before)
    height, width = image.shape[:2]
    return Result(plan, pictures.kind, pictures.name, pictures.stage, (width, height), models)


def _pass_by_pass(
    pictures: Pictures, models: Sequence[Measured], plan: Plan, tick: Callable[[], object], clock: Clock
) -> NDArray[np.uint8]:
    """Fills in the passes; returns the last picture with a face."""
    trackers = [_tracker(m.subject) for m in models]
    best = None
    for i in range(-plan.warm_up, plan.repeat):
        reading = Stopwatch(clock)
        picture = pictures.next(reading)
        for measured, tracker in zip(models, trackers, strict=True):
            subject = measured.subject
            image = picture.copy()  # so that each model finds it as freshly written as the first one does
            whole, faces = once(lambda s=subject, p=image: s.landmarker(p), clock)
            seconds = {**reading.seconds, END_TO_END: whole}
            if pictures.kind == "video":
                seconds[FOLLOWED] = once(lambda t=tracker, p=image: t(p), clock)[0]
            watch = Stopwatch(clock)
            subject.staged(image, watch)
            if i >= 0:
                measured.passes.append({**seconds, **watch.seconds})
                measured.faces.append(len(faces))
            best = image if faces else best
        if best is None and pictures.kind == "image":
            break
        tick()
    if best is None or not any(models[0].faces):
        raise InputError(f"The detector finds no face in '{pictures.name}', so there is nothing to time; give another --source.")
    return best


def _tracker(subject: Subject) -> Tracker:
    """As ``keyposs-trt run`` follows faces through a video."""
    return Tracker(subject.landmarker, lost_score=subject.landmarker.spec.lost_score)


def _sweep(models: Sequence[Measured], image: NDArray[np.uint8], plan: Plan, tick: Callable[[], object], clock: Clock) -> None:
    """Fills in the batches: the sizes take turns, and for each size the models."""
    if not plan.batches:
        return
    work = [(n, m, m.subject.landmarker.runner, m.subject.crops(image, n)) for n in plan.batches for m in models]
    for i in range(-plan.warm_up, plan.repeat):
        for n, measured, runner, crops in work:
            calls = plan.calls(n)
            # Spread evenly over all passes; of the warm-up every size has its share, at least one.
            if i < 0 and (i == -1 or i % n == 0):
                runner(crops)
            elif i >= 0 and i * calls // plan.repeat > (i - 1) * calls // plan.repeat:
                seconds, _ = once(lambda r=runner, c=crops: r(c), clock)
                measured.batches.setdefault(n, []).append(seconds)
        tick()
