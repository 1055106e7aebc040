"""NME of models in the dark, on turned heads and on open mouths: views rendered of portraits never trained on.

    python benchmarks/hard_cases.py [MODEL ...] [--data ../shared/data] [--picture FILE] [--json]

Each case is made of the 73 faces of the unseen set (number ending in 7), against the labels of the rendering; boxes from the landmarks.
The picture shows the first model on the generated portraits among them: green the labels, red what was found.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from keyposs_trt import Landmarker
from keyposs_trt.geometry import box_of_points
from keyposs_trt.images import read_image, write_image
from keyposs_trt.metrics import nme, normaliser
from keyposs_trt.models import model_names
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.synthesis.generate import find_portraits
from keyposs_trt.training.synthesis.mesh import load_mesh
from keyposs_trt.training.synthesis.render import PortraitRenderer

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = 256
SHOWN = 8  # faces a case
TURN = np.deg2rad(60)
LIGHT, NOISE = 0.12, 3.0  # share of the light left, and the noise of the sensor in levels


def cases(data: Path) -> tuple[dict[str, list[tuple[NDArray[np.uint8], NDArray[np.float64]]]], list[int]]:
    """Case -> pictures [SIZE, SIZE, 3] and labels [68, 2]; and which of them are generated portraits."""
    mesh = load_mesh(data / "mesh/ict_face.npz")
    rng = np.random.default_rng(0)
    found: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.float64]]]] = {}
    generated = []
    for folder in ("headshots", "portraits"):
        for portrait in find_portraits(data / folder, ("7",), held=True):
            if folder == "portraits":
                generated.append(len(found.get("as it is", [])))
            face = PortraitRenderer(mesh, read_image(portrait.path), portrait.points)
            plain, points = face.original(SIZE)
            dark = np.clip(plain * LIGHT + rng.normal(0, NOISE, plain.shape), 0, 255).astype(np.uint8)
            side = TURN if face.fit.yaw > 0 or (abs(face.fit.yaw) < 0.1 and rng.random() < 0.5) else -TURN
            open_mouth = face.fit.expression.copy()
            open_mouth[mesh.expression_names.index("jawOpen")] = 0.9
            views = {
                "as it is": (plain, points),
                "dark": (dark, points),
                "turned to 60 degrees": face.view(side - face.fit.yaw, 0, face.fit.expression, SIZE),
                "mouth open": face.view(0, 0, open_mouth, SIZE, 3),
            }
            for name, view in views.items():
                found.setdefault(name, []).append(view)
    return found, generated


def locate(landmarker: Landmarker, views: list[tuple[NDArray[np.uint8], NDArray[np.float64]]]) -> NDArray[np.float32]:
    """[n, 68, 2] landmarks."""
    return np.stack([landmarker(image, box_of_points(points)[None])[0].points for image, points in views])


def draw(views: list[tuple[NDArray[np.uint8], NDArray[np.float64]]], found: NDArray[np.float32], shown: list[int]) -> NDArray[np.uint8]:
    """[SIZE, SIZE * n, 3] the faces side by side."""
    tiles = []
    for i in shown:
        image, points = views[i]
        tile = image.copy()
        if tile.mean() < 40:  # or the points alone are seen
            tile = np.clip(tile.astype(np.float32) * 2.5, 0, 255).astype(np.uint8)
        for places, colour in ((points, (90, 230, 60)), (found[i], (60, 60, 255))):
            for x, y in places:
                cv2.circle(tile, (round(float(x) * 16), round(float(y) * 16)), 24, colour, -1, cv2.LINE_AA, 4)
        tiles.append(tile)
    return np.concatenate(tiles, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=model_names(), metavar="MODEL", help="names or files (default: all shipped models)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the first model's landmarks")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found, generated = cases(args.data)
    scheme = load_scheme("300w")
    figures: dict[str, dict[str, float]] = {}
    rows = []
    for model in args.models:
        with Landmarker.load(model, detector=None) as landmarker:
            for name, views in found.items():
                points, truth = locate(landmarker, views), np.stack([labels for _, labels in views])
                # A turned head's eyes are nearer to each other in the picture: the same face's norm as it is, for all cases.
                norm = normaliser(scheme, np.stack([labels for _, labels in found["as it is"]]))
                k = [np.ptp(t, axis=0).max() / np.ptp(p[1], axis=0).max() for t, p in zip(truth, found["as it is"], strict=True)]
                figures.setdefault(model, {})[name] = float(nme(points, truth, norm * np.array(k)).mean())
                if model == args.models[0]:
                    rows.append(draw(views, points, generated[:SHOWN]))
    if args.picture:
        write_image(args.picture, np.concatenate(rows, 0))
    if args.json:
        print(json.dumps(figures))
        return
    print(f"{'NME %':12s}" + "".join(f"{name:>22s}" for name in found))
    for model, by_case in figures.items():
        print(f"{model:12s}" + "".join(f"{100 * v:22.2f}" for v in by_case.values()))


if __name__ == "__main__":
    main()
