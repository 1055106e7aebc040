"""Can a model tell a face from no face? By the scores of its landmarks, and by how uncertain they are.

    python benchmarks/lost_faces.py [--model NAME ...] [--photos FILE ...] [--seed 0]

Crops of the face of examples/astronaut.jpg, or of the photographs given, turned, shifted, scaled, blurred, darkened, noisy and half
covered, against crops of the rest of the photograph, of noise of several grains, and of plain walls. AUC is the chance that a face has the
higher mean score, or the lower spread, than no face; the spread is the median standard deviation of the landmarks over the size, here over
that of the untouched face. The last columns are the rules of tracking: what passes for a face by its score alone, and also by not being
doubtful; and how many faces are doubtful, which costs a run of the detector.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from moving_photo import PHOTO

from keyposs_trt import Landmarker
from keyposs_trt.errors import KeypossError
from keyposs_trt.geometry import box_of_points
from keyposs_trt.images import read_image
from keyposs_trt.models import model_names
from keyposs_trt.video.identity import DOUBTFUL, Sighting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    View = tuple[NDArray[np.uint8], NDArray[np.float32]]
    Figures = tuple[NDArray[np.float64], ...]

FACES, ELSEWHERE, NOISE, WALLS = 96, 96, 48, 24
SPOILT = ("as it is", "blurred", "dark", "noisy", "small", "covered")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=model_names(), help="default: all shipped ones")
    parser.add_argument("--photos", nargs="+", type=Path, default=[PHOTO], help="photographs of one face each (default: the sample)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        landmarkers = {name: Landmarker.load(name, threads=1) for name in args.model}
        photos = [read_image(path) for path in args.photos]
    except KeypossError as e:
        sys.stderr.write(f"error: {e}\n")
        return 1
    rng, share = np.random.default_rng(args.seed), 1 / len(photos)
    figures: dict[str, list[Figures]] = {name: [] for name in landmarkers}
    for photo in photos:
        found = next(iter(landmarkers.values()))(photo)
        if not found:
            continue
        views = faces(photo, found[0].points, rng, share), background(photo, found[0].points, rng, share)
        for name, landmarker in landmarkers.items():
            usual = Sighting.of(landmarker(photo, [box_of_points(found[0].points)])[0]).spread
            figures[name].append(tuple(measure(landmarker, v, usual) for v in views))
    print("| model | AUC of the score | AUC of the spread | no face passes by score | and by spread | faces doubtful |")
    print("|---" * 6 + "|")
    for name, rows in figures.items():
        (score, spread), (none_score, none_spread) = (np.concatenate(part, 1) for part in zip(*rows, strict=True))
        passes, certain = none_score >= landmarkers[name].spec.lost_score, none_spread <= DOUBTFUL
        shares = passes.mean(), (passes & certain).mean(), (spread > DOUBTFUL).mean()
        print(
            f"| {name} | {auc(score, none_score):.3f} | {auc(-spread, -none_spread):.3f} | " + " | ".join(f"{s:.1%}" for s in shares) + " |"
        )
    return 0


def faces(photo: NDArray[np.uint8], points: NDArray[np.float32], rng: np.random.Generator, share: float) -> list[View]:
    """The face in many ways, each with a box as tracking would have it."""
    views: list[View] = []
    middle, size = points.mean(0), float(np.ptp(points, axis=0).max())
    for i in range(max(len(SPOILT), round(FACES * share))):
        matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), rng.uniform(-25, 25), rng.uniform(80, 240) / size)
        matrix[:, 2] += 256 - middle
        picture = cv2.warpAffine(photo, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)
        there = points @ matrix[:, :2].T + matrix[:, 2]
        box = box_of_points(there)
        side = float((box[2:] - box[:2]).max())
        picture = spoil(picture, SPOILT[i % len(SPOILT)], box, side, rng)
        views.append((picture, box + rng.normal(0, 0.03 * side, 4).astype(np.float32)))
    return views


def spoil(picture: NDArray[np.uint8], how: str, box: NDArray[np.float32], side: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    seen = picture.astype(np.float32)
    if how == "blurred":
        seen = cv2.GaussianBlur(seen, (0, 0), 0.04 * side)
    elif how == "dark":
        seen = 0.15 * seen + rng.normal(0, 4, seen.shape)
    elif how == "noisy":
        seen += rng.normal(0, 25, seen.shape)
    elif how == "small":
        small = cv2.resize(seen, None, fx=24 / side, fy=24 / side, interpolation=cv2.INTER_AREA)
        seen = cv2.resize(small, picture.shape[1::-1])
    elif how == "covered":
        x1, y1, x2, y2 = box.astype(int)
        seen[(y1 + y2) // 2 : y2 + 10, x1:x2] = rng.integers(0, 256, 3)
    return np.clip(seen, 0, 255).astype(np.uint8)


def background(photo: NDArray[np.uint8], points: NDArray[np.float32], rng: np.random.Generator, share: float) -> list[View]:
    """No faces: parts of the photograph beside the face, noise, walls."""
    x1, y1, x2, y2 = box_of_points(points)
    views: list[View] = []
    elsewhere, noise, walls = (max(1, round(n * share)) for n in (ELSEWHERE, NOISE, WALLS))
    for _ in range(100 * elsewhere):
        if len(views) == elsewhere:
            break
        side = rng.uniform(50, min(140, *photo.shape[:2]))
        x, y = rng.uniform(0, photo.shape[1] - side), rng.uniform(0, photo.shape[0] - side)
        if x > x2 or x + side < x1 or y > y2 or y + side < y1 - 0.3 * (y2 - y1):
            views.append((photo, np.array([x, y, x + side, y + side], np.float32)))
    box = np.array([60, 60, 200, 200], np.float32)
    for _ in range(noise):
        grain = cv2.GaussianBlur(rng.standard_normal((256, 256, 3)), (0, 0), rng.choice([0.5, 1, 3, 8, 20]))
        views.append((np.clip(60 * grain / grain.std() + rng.uniform(60, 190), 0, 255).astype(np.uint8), box))
    for _ in range(walls):
        wall = rng.uniform(0, 255) + rng.normal(0, 2, (256, 256, 3))
        views.append((np.clip(wall, 0, 255).astype(np.uint8), box))
    return views


def measure(landmarker: Landmarker, views: list[View], usual: float) -> NDArray[np.float64]:
    """[2, V]: mean score, and spread over the usual one, of each view."""
    found = [landmarker(picture, [box])[0] for picture, box in views]
    return np.array([[float(face.scores.mean()) for face in found], [Sighting.of(face).spread / usual for face in found]])


def auc(faces: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    above = faces[:, None] - others[None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


if __name__ == "__main__":
    sys.exit(main())
