"""Which face is which: what is known of a face, where it is expected, and the assignment of faces found to faces known.

A face is expected where it would be at constant velocity, and told from others by the mean distance of its landmarks to where they are
expected, relative to its size. The assignment is greedy, cheapest pair first: only faces that overlap compete, a handful at most, and
there it differs from the optimal one only where two pairs cost nearly the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from keyposs_trt.landmarks import Landmarks

    Box = tuple[float, float, float, float]  # x1 y1 x2 y2: plain numbers, as NumPy takes longer for so few
    Boxes = Sequence[Box] | NDArray[np.float32]

DUPLICATE = 0.5  # IoU of the landmarks' boxes from which two faces are one
DOUBTFUL = 1.3  # times its usual uncertainty from which a face may be none
MEMORY = 1.0  # seconds for which a lost face is remembered
MOST_REMEMBERED = 32  # faces, for clocks that stand still
REACH = 0.8  # of its size: how far from where it is expected a lost face is found again
STRANGE = 0.5  # of its size: how far from where it is expected a face may be found in another face's crop
OWN_CROP = 0.05  # of its size: advantage of a face's own crop
LEAD = 0.8  # of the way at constant velocity that a face is expected to go
STILL = 0.01  # of its size: a face that moves less between two frames stands still
HELD = 0.03  # of its size: a crop stays where it is while no side of the box moves further
HORIZON = 0.25  # seconds; a face is not expected to go on at constant velocity for longer
MAX_STEP = 0.5  # seconds between two frames beyond which they tell no velocity
RESIZED = 2.0  # a face found again has not doubled or halved


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A face found in a frame.

    Attributes:
        face: its landmarks.
        box: x1 y1 x2 y2, the smallest box around them, image pixels.
        spread: median standard deviation of its landmarks over its size.
    """

    face: Landmarks
    box: Box
    spread: float

    @staticmethod
    def of(face: Landmarks) -> Sighting:
        box, cov = extent(face.points), face.covariance
        middle = len(cov) // 2
        # The median of the variances is that of the standard deviations, squared.
        variance = float(np.partition(cov[:, 0] + cov[:, 2], middle)[middle]) / 2
        return Sighting(face, box, math.sqrt(max(variance, 0.0)) / max(size_of(box), 1e-6))


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """What is known of a face.

    Attributes:
        number: of the face in its stream, from 1.
        last: where it was last seen.
        time: when, in seconds.
        velocity: of its box's centre, x and y, pixels a second.
        usual: ``spread`` of the sightings when it was surest, or when the detector last confirmed a doubtful one.
        missed: how often in a row the detector has not confirmed it.
        waited: frames since the first of these times.
    """

    number: int
    last: Sighting
    time: float
    velocity: tuple[float, float]
    usual: float
    missed: int = 0
    waited: int = 0

    @staticmethod
    def start(number: int, seen: Sighting, time: float) -> Track:
        """A face seen for the first time."""
        return Track(number, seen, time, (0.0, 0.0), seen.spread)

    def moved(self, seen: Sighting, time: float) -> Track:
        """The face seen again."""
        waited = self.waited + 1 if self.missed else 0
        usual = min(self.usual, seen.spread) if seen.spread >= 0 else self.usual
        return Track(self.number, seen, time, self._velocity(seen.box, time), usual, self.missed, waited)

    def found_again(self, seen: Sighting, time: float) -> Track:
        """The face led to by the detector after it was lost."""
        return Track(self.number, seen, time, self._velocity(seen.box, time), seen.spread)

    def confirmed(self) -> Track:
        """The face, which the detector sees too: its uncertainty, if large, is that of a face."""
        usual = self.last.spread if self.doubtful else self.usual
        return Track(self.number, self.last, self.time, self.velocity, usual)

    def unconfirmed(self) -> Track:
        """The face, which the detector does not see."""
        return Track(self.number, self.last, self.time, self.velocity, self.usual, self.missed + 1, self.waited)

    @property
    def doubtful(self) -> bool:
        """Whether the landmarks are so much less certain than usual that there may be no face."""
        return not self.last.spread <= DOUBTFUL * self.usual

    def expected(self, time: float) -> tuple[float, float]:
        """How far it is expected to have gone at a time, x and y in pixels; nothing if that lies before."""
        seconds = LEAD * min(max(time - self.time, 0.0), HORIZON)
        return self.velocity[0] * seconds, self.velocity[1] * seconds

    def crop(self, time: float) -> Box:
        """The box to look for it in at a time.

        It stays that of the last frame while the landmarks stay: where it trembles, so do the landmarks found in it.
        """
        (x1, y1, x2, y2), (dx, dy) = self.last.box, self.expected(time)
        x3, y3, x4, y4 = box = x1 + dx, y1 + dy, x2 + dx, y2 + dy
        a, b, c, d = self.last.face.box.tolist()
        return (a, b, c, d) if max(abs(x3 - a), abs(y3 - b), abs(x4 - c), abs(y4 - d)) < HELD * size_of(box) else box

    def distance(self, points: NDArray[np.float32], time: float) -> float:
        """Mean distance of landmarks [L, 2] to where its own are expected, over its size; infinite where it is not a number."""
        apart = points - (self.last.face.points + np.array(self.expected(time), np.float32))
        d = float(np.sqrt((apart * apart).sum(1)).mean()) / max(size_of(self.last.box), 1e-6)
        return d if math.isfinite(d) else math.inf

    def _velocity(self, box: Box, time: float) -> tuple[float, float]:
        step = time - self.time
        x, y = ((box[i] + box[i + 2] - self.last.box[i] - self.last.box[i + 2]) / 2 for i in (0, 1))
        # Written so that numbers that are not finite fail.
        if not 0 < step <= MAX_STEP or not STILL * size_of(box) <= math.hypot(x, y) < math.inf:
            return 0.0, 0.0
        return x / step, y / step


def assign(tracks: Sequence[Track], seen: Sequence[Sighting], own: Sequence[int], time: float) -> list[Sighting | None]:
    """Where each followed face is; None if it was lost.

    Of two sightings that lie on one face only one is given away: to the face that was expected nearest to it.

    Args:
        tracks: the faces followed.
        seen: what was found in their crops.
        own: for each of these the index of the face in whose crop it was found.
        time: of the frame, seconds.
    """
    given: list[Sighting | None] = [None] * len(tracks)
    boxes = [s.box for s in seen]
    if len(seen) < 2 or not np.triu(iou(boxes, boxes), 1).any():
        for i, sighting in zip(own, seen, strict=True):
            given[i] = sighting
        return given
    costs: list[tuple[float, int, int]] = []
    for j, sighting in enumerate(seen):
        for i, track in enumerate(tracks):
            d = track.distance(sighting.face.points, time)
            if i == own[j] or d < STRANGE:
                costs.append((d - OWN_CROP * (i == own[j]), i, j))
    for _, i, j in sorted(costs):
        if given[i] is None and is_new(seen[j], [s for s in given if s]):
            given[i] = seen[j]
    return given


def is_new(sighting: Sighting, others: Sequence[Sighting]) -> bool:
    """Whether a sighting lies on none of the faces of others."""
    return not others or bool(iou([sighting.box], [s.box for s in others]).max() < DUPLICATE)


def recognise(lost: Sequence[Track], seen: Sequence[Sighting], time: float) -> list[Track | None]:
    """For each sighting that the detector led to, the lost face it belongs to; None for a new face."""
    costs: list[tuple[float, int, int]] = []
    for j, sighting in enumerate(seen):
        size = size_of(sighting.box)
        for i, track in enumerate(lost):
            before = size_of(track.last.box)
            if size <= RESIZED * before and before <= RESIZED * size and (d := track.distance(sighting.face.points, time)) < REACH:
                costs.append((d, i, j))
    known: list[Track | None] = [None] * len(seen)
    taken: set[int] = set()
    for _, i, j in sorted(costs):
        if known[j] is None and i not in taken:
            known[j] = lost[i]
            taken.add(i)
    return known


def remembered(tracks: Iterable[Track], time: float) -> list[Track]:
    """The faces seen within ``MEMORY`` before a time; one seen after it, by a clock that was set back, is forgotten."""
    return [track for track in tracks if 0 <= time - track.time <= MEMORY][-MOST_REMEMBERED:]


def extent(points: NDArray[np.float32]) -> Box:
    """x1 y1 x2 y2: the smallest box around points [L, 2]."""
    rows = np.ascontiguousarray(points.T)  # along rows NumPy is several times as fast
    (x1, y1), (x2, y2) = rows.min(1).tolist(), rows.max(1).tolist()
    return x1, y1, x2, y2


def size_of(box: Box) -> float:
    """The longer side of a box, x1 y1 x2 y2."""
    return max(box[2] - box[0], box[3] - box[1])


def iou(first: Boxes, second: Boxes) -> NDArray[np.float32]:
    """[A, B] intersection over union of boxes [A, 4] and [B, 4], x1 y1 x2 y2; 0 for boxes without area."""
    a, b = np.asarray(first, np.float32).reshape(-1, 4), np.asarray(second, np.float32).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.maximum(high - low, 0).prod(-1)
    union = _area(a)[:, None] + _area(b)[None] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)
