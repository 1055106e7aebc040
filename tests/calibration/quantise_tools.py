"""What the tests of calibration share: a small network of convolutions that finds a bright spot, and pictures for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from model_zoo import spot_image, template, tiny_model

from keyposs_trt.datasets import Dataset, Face

if TYPE_CHECKING:
    from pathlib import Path

SIDE, MAP, POINTS = 32, 16, 5


def model_file(path: Path) -> Path:
    return tiny_model(path, points=POINTS, heatmap_size=MAP, input_size=SIDE, scheme="300w", decoder="wls")


def picture(number: int) -> np.ndarray:
    """[32, 32, 3] a dim noise with a bright spot, another each time."""
    rng = np.random.default_rng(number)
    image = spot_image(SIDE, MAP, (int(rng.integers(6, 10)), int(rng.integers(6, 10))))
    return np.maximum(image, rng.integers(0, 30, image.shape).astype(np.uint8))


def folder_of_pictures(folder: Path, count: int = 24) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        assert cv2.imwrite(str(folder / f"{i:03d}.png"), picture(i))
    return folder


def whole_picture(image: np.ndarray) -> list[list[float]]:
    """A box whose crop is the picture."""
    side = SIDE / 1.25
    middle = (SIDE - 1) / 2
    return [[middle - side / 2, middle - side / 2, middle + side / 2, middle + side / 2]] if image.any() else []


def dataset_of(folder: Path, points: int = POINTS) -> Dataset:
    """The pictures with landmarks about the middle, which are nearly those of the model."""
    middle = (MAP - 1) / 2
    truth = (template(points, MAP) + middle + 0.5) * SIDE / MAP - 0.5
    faces = tuple(Face(p, truth.astype(np.float32), f"{folder}/{p.name}") for p in sorted(folder.glob("*.png")))
    return Dataset("spots", "mmpose", "300w", folder, faces)
