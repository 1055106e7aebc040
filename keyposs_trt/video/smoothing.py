"""Landmarks without their trembling: a One-Euro filter steered by the covariance that the model predicts.

The One-Euro filter (Casiez, Roussel, Vogel: 1-Euro Filter, CHI 2012) is a low pass whose cutoff f rises with speed:

    x <- x + a (z - x),    a = 1 / (1 + 1 / (2 pi f dt)),    f = cutoff + slope |v|

with the speed v from differences of z, themselves low-passed with a fixed cutoff. Here:

- Speeds are in sizes of the face a second, so that the settings do not depend on the picture, and dt is the true time between frames.
- |v| is that of the whole face, the mean over its points, which trembles little and counts ``rigid`` times, plus that of the point relative
  to the face.
- Either counts as far as noise does not explain it. White noise of standard deviation n gives a low-passed speed of
  n a_v sqrt(2 / (2 - a_v)) / dt, where a_v is the low pass's a. n is the predicted standard deviation sigma times a factor that is learned
  from each face: how far its points are, in sigmas, from where the last two frames lead to, with the motion of the whole face taken out.
- f is multiplied by (usual / sigma)^steer, where usual is the median of the face's points over the last second. The steady Kalman filter of
  a point that drifts with intensity q and is measured with noise r has the cutoff sqrt(q / r) / 2 pi: inverse to the standard deviation.
  So points less certain than usual follow the calmer, and all of them when the face becomes less certain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.identity import extent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Complex = NDArray[np.complexfloating[Any, Any]]
    Real = NDArray[np.floating[Any]]

LEARN_SECONDS = 0.6  # over which what is usual, and the noise, are learned
RAYLEIGH = 1.1774  # median length of a vector of two normal numbers
LEAST, MOST = np.float32(0.0625), np.float32(6.25)  # of usual variance / variance that count
TINY = np.float32(1e-12)  # variance, of points without any
FORGET = 2.0  # seconds without a face after which it begins anew
JUMP = 1.0  # of its size: a face that moves further between two frames begins anew
MOST_TRACKS = 1024  # remembered, for clocks that stand still; more than the faces of any crowd


@dataclass(frozen=True)
class Settings:
    """Settings of the filter.

    Attributes:
        cutoff: Hz, of a point that rests.
        slope: Hz at a speed of one size of the face a second.
        speed_cutoff: Hz, of the low pass of the speed.
        rigid: how much more the speed of the whole face counts than that of a point relative to it.
        rigid_noise: speed of the whole face that is taken for noise, over what the noise of its median point gives.
        noise: speed of a point relative to the face that is taken for noise, over what its own noise gives.
        steer: exponent of usual / sigma.
    """

    cutoff: float
    slope: float
    speed_cutoff: float = 1.0
    rigid: float = 1.0
    rigid_noise: float = 0.0
    noise: float = 0.0
    steer: float = 0.0


STEERED = Settings(cutoff=0.2, slope=120.0, speed_cutoff=5.0, rigid=4.0, rigid_noise=1.2, noise=2.0, steer=1.0)
PLAIN = Settings(cutoff=0.5, slope=40.0)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Of one face, after a frame. Points are complex numbers x + iy, complex64; lengths are in sizes of the face, but for the points.

    Attributes:
        time: of the frame, seconds.
        dt: seconds since the one before.
        found, smooth: [L], points as found and smoothed, pixels.
        step: [L], how far each point went, beyond the mean of all; None after the first frame.
        speed: [L], low-passed, a second.
        usual: variance of the median point.
        noise: trembling over the predicted standard deviation; 0 while unknown.
    """

    time: float
    found: Complex
    smooth: Complex
    speed: Complex
    dt: float = 0.0
    step: Complex | None = None
    usual: float = 0.0
    noise: float = 0.0


class Smoother:
    """Smooths the landmarks of the faces of one stream; make a new one for each.

    Args:
        plain: the One-Euro filter as published, without the covariance and without regard to the face's own motion: for comparison.
        settings: of the filter; None for those measured best, ``STEERED`` or ``PLAIN``.
    """

    def __init__(self, *, plain: bool = False, settings: Settings | None = None) -> None:
        self._plain = plain
        self._settings = settings or (PLAIN if plain else STEERED)
        self._states: dict[int, _State] = {}  # the one used last stands last
        self._time = math.nan

    def __call__(self, track: int, landmarks: Landmarks, time: float) -> Landmarks:
        """The landmarks with smoothed points; everything else is passed through.

        A face begins anew, with its points as they are, when it jumps, was not seen for 2 seconds, or its time goes back.

        Args:
            track: number of the face.
            landmarks: of the face in this frame.
            time: of the frame, seconds.
        """
        x1, y1, x2, y2 = extent(landmarks.points)
        size = max(x2 - x1, y2 - y1)
        if not 0 < size < math.inf:
            return landmarks
        points = np.ascontiguousarray(landmarks.points, np.float32).view(np.complex64)[:, 0]
        before = self._states.pop(track, None)
        after = before and self._after(before, points, landmarks, size, time)
        if after is None:
            after = _State(time, points, points, np.zeros_like(points), usual=_median(_variance(landmarks, size)))
        self._states[track] = after
        self._forget(time)
        m = landmarks  # written out, as dataclasses.replace takes a tenth of all the time here
        smooth = after.smooth.view(np.float32).reshape(-1, 2)
        return Landmarks(smooth, m.scores, m.covariance, m.box, m.score, m.scheme, m.track)

    def _after(self, before: _State, points: Complex, landmarks: Landmarks, size: float, time: float) -> _State | None:
        """The state after one more frame; None where the face begins anew."""
        dt = time - before.time
        if dt == 0:
            return before
        if not 0 < dt <= FORGET or points.shape != before.found.shape:
            return None
        step = (points - before.found) * np.float32(1 / size)
        whole = _mean(step)
        if abs(whole) > JUMP:
            return None
        by = _share(self._settings.speed_cutoff, dt)
        speed = before.speed + np.float32(by) * (step * np.float32(1 / dt) - before.speed)
        if self._plain:
            cutoff = np.float32(self._settings.cutoff) + np.float32(self._settings.slope) * np.abs(speed)
            return _State(time, points, _followed(before.smooth, points, cutoff, dt), speed)
        variance, step = _variance(landmarks, size), step - whole
        learn = _share(1 / (2 * math.pi * LEARN_SECONDS), dt)
        usual = before.usual + learn * (_median(variance) - before.usual)
        noise = before.noise
        if before.step is not None:
            now = _noise(step, before.step, dt / before.dt, variance)
            noise = noise + learn * (now - noise) if noise else now
        # What white noise of one standard deviation gives in the low-passed speed.
        growth = noise * by * math.sqrt(2 / (2 - by)) / dt
        cutoff = self._cutoff(speed, variance, usual, growth)
        return _State(time, points, _followed(before.smooth, points, cutoff, dt), speed, dt, step, usual, noise)

    def _cutoff(self, speed: Complex, variance: Real, usual: float, growth: float) -> Real:
        """[L] Hz, of points with low-passed speeds [L] and variances [L]; noise adds ``growth`` standard deviations to a speed."""
        s = self._settings
        whole = _mean(speed)
        rigid = max(abs(whole) - s.rigid_noise * growth * math.sqrt(usual), 0.0)
        own = np.maximum(np.abs(speed - whole) - np.float32(s.noise * growth) * np.sqrt(variance), 0)
        certainty = np.minimum(np.maximum(np.float32(usual) / variance, LEAST), MOST) ** np.float32(s.steer / 2)
        return (np.float32(s.cutoff + s.slope * s.rigid * rigid) + np.float32(s.slope) * own) * certainty

    def _forget(self, time: float) -> None:
        """Drops faces that were not seen lately; a number is never used again, so those of another time are not missed."""
        if time != self._time:  # once a frame
            self._time = time
            self._states = {k: s for k, s in self._states.items() if abs(time - s.time) <= FORGET}
        if len(self._states) > MOST_TRACKS:
            del self._states[next(iter(self._states))]


def _share(cutoff: float, dt: float) -> float:
    """How much of a new value a low pass takes after ``dt`` seconds."""
    turn = 2 * math.pi * cutoff * dt
    return turn / (1 + turn)


def _followed(smooth: Complex, points: Complex, cutoff: Real, dt: float) -> Complex:
    """[L]: points after a low pass with cutoffs [L] in Hz."""
    turn = cutoff * np.float32(2 * math.pi * dt)
    return smooth + turn / (1 + turn) * (points - smooth)


def _noise(step: Complex, before: Complex, ratio: float, variance: Real) -> float:
    """Standard deviation of a point's trembling over its predicted one: the median point's.

    Args:
        step: [L], how far each point went.
        before: [L], the step before.
        ratio: of the time of this step to the time of that.
        variance: [L], predicted.
    """
    off = step - np.float32(ratio) * before
    squares = _median((off.real**2 + off.imag**2) / variance)
    return math.sqrt(squares / (1 + (1 + ratio) ** 2 + ratio**2)) / RAYLEIGH


def _variance(landmarks: Landmarks, size: float) -> Real:
    """[L] variance of each point along one axis, in squares of the face's size, above 0; what is not finite counts as uncertain."""
    c = landmarks.covariance
    v = np.maximum((c[:, 0] + c[:, 2]) * np.float32(0.5 / (size * size)), TINY)
    return v if math.isfinite(float(v.sum())) else np.nan_to_num(v, nan=1.0, posinf=1.0, neginf=1.0)


def _median(values: Real) -> float:
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _mean(values: Complex) -> np.complexfloating[Any, Any]:
    # np.mean takes twice as long.
    return values.sum() * np.float32(1 / len(values))
