"""Measures the maps from a detector's key points to the landmark box and writes keyposs_trt/detection/data/landmark_box.json.

    python scripts/fit_detector_box.py ../shared/data

The folder holds ``portraits/`` and ``headshots/``, each with images and ``mediapipe478.npz`` (names, points). Every image is
shown to BlazeFace upright and three times turned, scaled and moved; files whose number ends in 7 are left out of the fit and
give the figures that are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.datasets.teacher import TEACHER_68
from keyposs_trt.detection import landmark_box
from keyposs_trt.detection.blazeface import BlazeFace, merge
from keyposs_trt.detection.landmark_box import OutlineMap, as_complex, face_frame, features
from keyposs_trt.files import atomic_path
from keyposs_trt.geometry import box_of_points, transform
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

VIEWS, LARGEST_TURN, SIZE = 4, 60, 256
OUTLINE = list(range(27))  # jaw and brows: no other point of the 68 reaches further out
OUTLINE_MIRROR = load_scheme("300w").flip[OUTLINE]
KEY_POINTS: dict[str, dict[str, Any]] = {
    "blazeface": {"eyes": [0, 1], "mouth": [3], "mirror": [1, 0, 2, 3, 5, 4]},
    "five_points": {"eyes": [0, 1], "mouth": [3, 4], "mirror": [1, 0, 2, 4, 3]},
}
RIDGE = 1.0  # a few thousandths of the data: keeps the weights small where key points move together


@dataclass
class Faces:
    """N views: detected boxes and key points, true landmarks, turn in degrees, and whether the face takes part in the fit."""

    raw: NDArray[np.float64]  # [N, 4]
    key_points: dict[str, NDArray[np.float64]]  # [N, K, 2]
    landmarks: NDArray[np.float64]  # [N, 68, 2]
    turn: NDArray[np.float64]
    fitted: NDArray[np.bool_]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=landmark_box.TABLE)
    args = parser.parse_args()
    faces = collect(args.data)
    table: dict[str, Any] = {"made_by": "scripts/fit_detector_box.py", "faces": int(faces.fitted.sum())}
    report("box of the network", faces, faces.raw)
    for name, entry in KEY_POINTS.items():
        weights = fit(faces.key_points[name][faces.fitted], faces.landmarks[faces.fitted], **entry)
        rounded = np.round(weights, 5)
        table[name] = {**entry, "weights": rounded.tolist()}
        outline = OutlineMap(tuple(entry["eyes"]), tuple(entry["mouth"]), tuple(entry["mirror"]), rounded)
        report(f"from {name}", faces, outline.boxes(faces.key_points[name]))
    with atomic_path(args.output) as path:
        text = json.dumps(table, indent=1)
        path.write_text(text.replace(",\n    ", ", ").replace("[\n    ", "[").replace("\n   ]", "]") + "\n", encoding="utf-8")
    return 0


def collect(data: Path) -> Faces:
    """Runs BlazeFace on all views."""
    detector = BlazeFace(min_score=0.3)
    raw, six, landmarks, turn, fitted = [], [], [], [], []
    missed = 0
    for fit_it, angle, image, points in views(data):
        scores, shapes = merge(*detector._find(image))
        if not len(scores):
            missed += 1
            continue
        shape = shapes[np.linalg.norm(shapes[:, 0] - points.mean(0), axis=1).argmin()]
        raw.append(np.concatenate([shape[0] - shape[1] / 2, shape[0] + shape[1] / 2]))
        six.append(shape[2:])
        landmarks.append(points)
        turn.append(angle)
        fitted.append(fit_it)
    sys.stdout.write(f"{len(raw)} views, {missed} more without a face found\n")
    p = np.array(landmarks, np.float64)
    five = np.stack([p[:, 36:42].mean(1), p[:, 42:48].mean(1), p[:, 30], p[:, 48], p[:, 54]], 1)
    return Faces(np.array(raw), {"blazeface": np.array(six, np.float64), "five_points": five}, p, np.array(turn), np.array(fitted))


def views(data: Path) -> Iterator[tuple[bool, float, NDArray[np.uint8], NDArray[np.float32]]]:
    """Whether to fit to it, turn in degrees, image of 256 pixels, and points [68, 2], of every view of every file."""
    import cv2

    rng = np.random.default_rng(1)
    for folder in ("portraits", "headshots"):
        labels = np.load(data / folder / "mediapipe478.npz")
        for name, all_points in zip(labels["names"], labels["points"], strict=True):
            image = cv2.imread(str(data / folder / name))
            points = all_points[TEACHER_68, :2]
            box = box_of_points(points)
            side = float((box[2:] - box[:2]).max())
            for view in range(VIEWS):
                angle = rng.uniform(-LARGEST_TURN, LARGEST_TURN) if view else 0.0
                size = rng.uniform(24, 150) if view else side * SIZE / len(image)
                reach = min(0.6 * size, SIZE / 2 - 1)
                place = rng.uniform(reach, SIZE - reach, 2) if view else None
                # Averaged down to the size wanted, then turned: no aliasing.
                k = size / side
                small = cv2.resize(image, None, fx=k, fy=k, interpolation=cv2.INTER_AREA)
                centre = (box[:2] + box[2:] + 1) / 2 * k - 0.5
                c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
                turn = np.array([[c, -s], [s, c]])
                matrix = np.concatenate([turn, ((centre if place is None else place) - turn @ centre)[:, None]], 1)
                picture = cv2.warpAffine(small, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                seen = transform(matrix, (points + 0.5) * k - 0.5)
                yield Path(name).stem[-1] != "7", angle, picture, seen


def fit(
    key_points: NDArray[np.float64], landmarks: NDArray[np.float64], eyes: list[int], mouth: list[int], mirror: list[int]
) -> NDArray[np.float64]:
    """Weights [2K + 1, 2P] by ridge regression on the faces and their mirror images."""
    left, right = [], []
    for flip in (False, True):
        p, q = as_complex(key_points), as_complex(landmarks[:, OUTLINE])
        if flip:
            p, q = -np.conj(p[:, mirror]), -np.conj(q[:, OUTLINE_MIRROR])
        origin, axis = face_frame(p, eyes, mouth)
        z = (q - origin[:, None]) / axis[:, None]
        left.append(features(p, origin, axis))
        right.append(np.concatenate([z.real, z.imag], 1))
    x, y = np.concatenate(left), np.concatenate(right)
    return np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)


def report(title: str, faces: Faces, boxes: NDArray[np.floating]) -> None:
    """Prints how near boxes are to the true ones, on the faces left out of the fit."""
    sys.stdout.write(f"{title}\n")
    true = box_of_points(faces.landmarks)
    overlap = np.maximum(np.minimum(boxes[:, 2:], true[:, 2:]) - np.maximum(boxes[:, :2], true[:, :2]), 0).prod(1)
    iou = overlap / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (true[:, 2:] - true[:, :2]).prod(1) - overlap)
    side = (true[:, 2:] - true[:, :2]).max(1)
    centre = np.linalg.norm(boxes[:, :2] + boxes[:, 2:] - true[:, :2] - true[:, 2:], axis=1) / 2 / side
    ratio = np.log((boxes[:, 2:] - boxes[:, :2]).max(1) / side)
    for low, high in ((0, 0), (0, 60), (0, 15), (15, 30), (30, 45), (45, 60)):
        m = ~faces.fitted & (np.abs(faces.turn) >= low) & (np.abs(faces.turn) <= high)
        sys.stdout.write(
            f"  turned {low:2d}..{high:2d} degrees: {m.sum():4d} views, IoU {iou[m].mean():.3f} (p5 {np.percentile(iou[m], 5):.3f}), "
            f"centre off {100 * centre[m].mean():.1f} %, side off {100 * np.sqrt((ratio[m] ** 2).mean()):.1f} % rms, "
            f"{100 * ratio[m].mean():+.1f} % mean\n"
        )


if __name__ == "__main__":
    sys.exit(main())
