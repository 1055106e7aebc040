"""Small trainings for tests: a handful of faces in mmpose's layout, pictures of noise with a gradient."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]


def write_faces(folder: Path, count: int = 12, points: int = 68, seed: int = 0, gaps: bool = False) -> Path:
    """A data set of ``count`` faces, one a picture; its JSON file. With ``gaps`` the first half of them has unlabelled points."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for n in range(count):
        picture = rng.integers(0, 256, (96, 96, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{n}.png"), picture)
        landmarks = rng.uniform(20, 76, (points, 2))
        landmarks[:2] = (20, 20), (76, 76)
        images.append({"id": n, "file_name": f"{n}.png", "height": 96, "width": 96})
        flags = np.full(points, 2.0)
        if gaps and 2 * n < count:
            flags[48:] = 0
        keypoints = np.c_[landmarks, flags].ravel().round(2).tolist()
        annotations.append({"id": n, "image_id": n, "keypoints": keypoints, "bbox": [20, 20, 56, 56]})
    path = folder / "faces.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return path


def write_recipe(folder: Path, faces: Path, **training: object) -> Path:
    """A recipe of a tiny network on ``faces``, which are also those of the validation."""
    values = {"epochs": 2, "samples": 0, "batch": 4, "workers": 0, "threads": 1, **training}
    path = folder / "tiny.yaml"
    path.write_text(f"""
name: tiny
training_data: noise
licence: Apache-2.0
data: {{root: {faces.parent}, dataset: {faces.name}, train_split: null, validation_split: null}}
network: {{weights: null, width: 8, input_size: 64, heatmap_size: 16, coarser: [8]}}
target: {{sigma: {{16: 1.2, 8: 1.0}}}}
training: {json.dumps(values)}
""")
    return path


def train(recipe: Path, out: Path, *more: str, processes: int = 1) -> subprocess.Popen[str]:
    """``keyposs-trt train`` in the background, in its own process group, through torchrun where there are several processes."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(_free_port())]
    command = [*launcher, "-m", "keyposs_trt.cli.main", "train", str(recipe), "-o", str(out), *more]
    # The loopback by name, as a machine without a network has no other.
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def losses(log: Path) -> dict[int, float]:
    """Step -> training loss, of a ``metrics.csv``."""
    import csv

    with log.open() as file:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")}
