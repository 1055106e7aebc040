"""Jitter of a still face and lag of a moving one: raw, with the One-Euro filter, and with the one steered by the covariance.

    python benchmarks/smoothing.py [--model face68-32 face68-8] [--only filters|crops|time] [--length 75]

The face is a photograph (examples/astronaut.jpg) that rests, is half covered, moves or talks, with fresh noise, flicker and JPEG in every
frame (benchmarks/moving_photo.py), followed as in a video. Jitter is the mean distance of a landmark from one frame to the next, of the
covered face by the surer and the less sure half of the landmarks; error is the mean distance from where the landmarks of the still face,
on average, are moved to; both in % of the distance of the outer eye corners. Delay, in frames, is where the cross-correlation with the
known motion is largest; of the mouth, where that of its opening with the raw one is.

The published filter is shown three times: with the settings of ``Smoother(plain=True)``, and with those of a grid that serve it best on
these very clips: the least error of those with no more jitter than the steered filter, and the least jitter of those with no more error.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
from moving_photo import CHIN, KINDS, PHOTO, Clip, make_clip

from keyposs_trt import Landmarker
from keyposs_trt.detection import Detections
from keyposs_trt.errors import KeypossError
from keyposs_trt.images import read_image
from keyposs_trt.video import identity
from keyposs_trt.video.smoothing import PLAIN, STEERED, Settings, Smoother
from keyposs_trt.video.tracking import FaceTracker, Locate, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from keyposs_trt.landmarks import Landmarks

WARM = 15  # frames that do not count
NOSE = 30  # landmark
EYES = (36, 45)
GRID = {"cutoff": (0.05, 0.2, 0.5, 1.0, 2.0), "slope": (10.0, 20.0, 40.0, 80.0, 160.0, 320.0), "speed_cutoff": (0.5, 1.0, 2.0, 4.0)}


@dataclass(frozen=True)
class Figures:
    """Of a filter: in % of the eye distance, and frames."""

    jitter: float
    covered_sure: float
    covered_unsure: float
    error: float
    delay: float
    fast_error: float
    mouth_delay: float

    def __str__(self) -> str:
        lengths = (self.jitter, self.covered_sure, self.covered_unsure, self.error)
        return " | ".join([*(f"{v:.3f}" for v in lengths), f"{self.delay:.2f}", f"{self.fast_error:.3f}", f"{self.mouth_delay:.2f}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["face68-32", "face68-8"], help="default: %(default)s")
    parser.add_argument("--only", choices=("filters", "crops", "time"), help="one part of it")
    parser.add_argument("--length", type=int, default=75, help="frames a clip (default %(default)s)")
    args = parser.parse_args()
    try:
        landmarkers = [Landmarker.load(model, threads=1) for model in args.model]
    except KeypossError as e:
        sys.stderr.write(f"error: {e}\n")
        return 1
    still = landmarkers[0](read_image(PHOTO))[0].points
    clips = {kind: make_clip(kind, still, args.length) for kind in KINDS}
    if args.only in (None, "filters"):
        for name, landmarker in zip(args.model, landmarkers, strict=True):
            filters(name, {kind: follow(landmarker, clip) for kind, clip in clips.items()}, clips)
    if args.only in (None, "crops"):
        for name, landmarker in zip(args.model, landmarkers, strict=True):
            crops(name, landmarker, clips)
    if args.only in (None, "time"):
        cost(follow(landmarkers[0], clips["still"]))
    return 0


def follow(landmarker: Landmarker, clip: Clip) -> list[Landmarks | None]:
    """The raw landmarks of a clip; None where the face was lost."""
    tracker = Tracker(landmarker, max_faces=1, detect_every=1_000_000, lost_score=landmarker.spec.lost_score)
    return [(tracker(frame, t) or [None])[0] for frame, t in zip(clip.frames, clip.times, strict=True)]


def filters(model: str, found: dict[str, list[Landmarks | None]], clips: dict[str, Clip]) -> None:
    faces = {kind: [face for face in row if face] for kind, row in found.items()}
    if any(len(faces[kind]) < len(row) for kind, row in found.items()):
        raise SystemExit(f"error: {model} loses the face in a clip that it must follow.")

    def measure(settings: Settings | None, plain: bool = False) -> Figures:
        return figures(faces, {kind: smoothed(row, clips[kind], settings, plain) for kind, row in faces.items()}, clips)

    raw, steered = measure(None), measure(STEERED)
    tried = [measure(Settings(**dict(zip(GRID, values, strict=True))), plain=True) for values in product(*GRID.values())]
    calm = min((f for f in tried if f.jitter <= steered.jitter), key=lambda f: f.error, default=None)
    quick = min((f for f in tried if f.error <= steered.error), key=lambda f: f.jitter, default=None)
    rows = {
        "raw": raw,
        "One-Euro": measure(PLAIN, plain=True),
        "One-Euro, at the steered one's jitter": calm,
        "One-Euro, at the steered one's error": quick,
        "steered, all points alike": measure(replace(STEERED, steer=0.0)),
        "steered": steered,
    }
    print(f"| {model} | jitter | covered, sure | covered, unsure | moving: error | moving: delay | fast: error | mouth: delay |")
    print("|---" * 8 + "|")
    for name, row in rows.items():
        print(f"| {name} | {row or ' | '.join(['none'] * 7)} |")
    print()


def smoothed(faces: Sequence[Landmarks], clip: Clip, settings: Settings | None, plain: bool) -> NDArray[np.float64]:
    """[T, 68, 2] points after the filter; as they are without settings."""
    if settings is None:
        return raw_points(faces)
    smoother = Smoother(plain=plain, settings=settings)
    return np.stack([smoother(1, face, t).points for face, t in zip(faces, clip.times, strict=True)]).astype(float)


def figures(raw: dict[str, list[Landmarks]], after: dict[str, NDArray[np.float64]], clips: dict[str, Clip]) -> Figures:
    still = raw_points(raw["still"]).mean(0)
    eyes = float(np.linalg.norm(still[EYES[0]] - still[EYES[1]])) / 100
    truth = {kind: moved(clips[kind].motion, still) for kind in ("moving", "fast")}
    error = {kind: float(np.linalg.norm(after[kind] - truth[kind], axis=-1)[WARM:].mean()) / eyes for kind in truth}
    trembling = np.linalg.norm(np.diff(after["covered"][WARM:], axis=0), axis=-1).mean(0) / eyes
    sigma = np.mean([face.sigma for face in raw["covered"]], 0)
    unsure = sigma > np.median(sigma)
    opening = [np.linalg.norm(p[:, CHIN] - p[:, NOSE], axis=-1)[WARM:] for p in (after["talking"], raw_points(raw["talking"]))]
    return Figures(
        jitter=float(np.linalg.norm(np.diff(after["still"][WARM:], axis=0), axis=-1).mean()) / eyes,
        covered_sure=float(trembling[~unsure].mean()),
        covered_unsure=float(trembling[unsure].mean()),
        error=error["moving"],
        delay=delay(after["moving"][WARM:].mean(1), truth["moving"][WARM:].mean(1)),
        fast_error=error["fast"],
        mouth_delay=delay(opening[0][:, None], opening[1][:, None]),
    )


def raw_points(faces: Sequence[Landmarks]) -> NDArray[np.float64]:
    return np.stack([face.points for face in faces]).astype(float)


def moved(motion: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[T, 68, 2]: points [68, 2] through affine maps [T, 2, 3]."""
    return np.einsum("tij,lj->tli", motion[:, :, :2], points) + motion[:, None, :, 2]


def delay(late: NDArray[np.float64], signal: NDArray[np.float64], most: int = 8) -> float:
    """Frames by which a signal [T, D] is late: the top of the parabola through the largest cross-correlation and its neighbours."""

    def correlation(shift: int) -> float:
        a, b = late[most + shift : len(late) - most + shift], signal[most : len(signal) - most]
        a, b = a - a.mean(0), b - b.mean(0)
        return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))

    values = [correlation(shift) for shift in range(-2, most + 1)]
    top = min(max(int(np.argmax(values)), 1), len(values) - 2)
    left, middle, right = values[top - 1 : top + 2]
    return top - 2 + (left - right) / (2 * (left - 2 * middle + right))


def crops(model: str, landmarker: Landmarker, clips: dict[str, Clip]) -> None:
    print(f"| {model}: the next crop is | still: jitter | moving: error | fast: error |")
    print("|---" * 4 + "|")
    policies = {"the box of the landmarks": (0.0, 0.0), "held": (identity.HELD, 0.0), "ahead": (0.0, identity.LEAD)}
    still = None
    for name, (held, lead) in (policies | {"held and ahead": (identity.HELD, identity.LEAD)}).items():
        with mock.patch.object(identity, "HELD", held), mock.patch.object(identity, "LEAD", lead):
            found = {kind: follow(landmarker, clips[kind]) for kind in ("still", "moving", "fast")}
        rest = np.stack([face.points for face in found["still"] if face]).astype(float)
        still = rest.mean(0) if still is None else still
        eyes = float(np.linalg.norm(still[EYES[0]] - still[EYES[1]])) / 100
        cells = [float(np.linalg.norm(np.diff(rest, axis=0), axis=-1).mean()) / eyes]
        for kind in ("moving", "fast"):
            pairs = zip(found[kind], moved(clips[kind].motion, still), strict=True)
            cells.append(float(np.mean([np.linalg.norm(face.points - t, axis=-1).mean() for face, t in pairs if face])) / eyes)
        print(f"| {name} | " + " | ".join(f"{c:.2f}" for c in cells) + " |")
    print()


def cost(found: Sequence[Landmarks | None]) -> None:
    """Prints the microseconds a frame of one face."""
    faces = [face for face in found if face]

    def track(smoother: Smoother | None) -> None:
        tracker = FaceTracker(max_faces=1, detect_every=1_000_000, smoother=smoother)
        for i, face in enumerate(faces):
            step = tracker.step((512, 512), i / 30)
            try:
                request = next(step)
                while True:
                    request = step.send([face] if isinstance(request, Locate) else Detections(face.box[None], np.ones(1, np.float32)))
            except StopIteration:
                pass

    def smooth(smoother: Smoother) -> None:
        for i, face in enumerate(faces):
            smoother(1, face, i / 30)

    runs: dict[str, Callable[[], None]] = {
        "tracking": lambda: track(None),
        "One-Euro": lambda: smooth(Smoother(plain=True)),
        "steered": lambda: smooth(Smoother()),
        "tracking and steered": lambda: track(Smoother()),
    }
    print("| one face, one core | microseconds a frame |\n|---|---|")
    for name, run in runs.items():
        print(f"| {name} | {1e6 * min(timed(run) for _ in range(30)) / len(faces):.0f} |")


def timed(run: Callable[[], None]) -> float:
    start = time.process_time()  # other work on the machine does not count
    run()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
