"""A small WFLW-like data set on which the tiny model of ``model_zoo`` finds something: spots on a dark ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from dataset_files import coco, triples
from model_zoo import template

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 160


def spots(folder: Path, number: int = 4, noise: float = 1.0) -> Path:
    """A file in mmpose's layout, 68 points: each image has a white square where the tiny model (crop 128, map 32) sees a face.

    The box around the labels is about 102 pixels, so that the crop is about 128; labels lie ``noise`` pixels beside the model's points.
    """
    rng = np.random.default_rng(0)
    annotations, images = [], []
    for i in range(number):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        centre = rng.uniform(76, 84, 2)
        x, y = (centre - 2).round().astype(int)
        image[y : y + 4, x : x + 4] = 255
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f"{i}.png"), image)
        points = centre + template(68, 32) * 4 + rng.normal(0, noise, (68, 2))
        annotations.append({"image_id": i, "keypoints": triples(points), "bbox": [25.0, 25.0, 110.0, 110.0]})
        images.append(f'{{"id": {i}, "file_name": "{i}.png"}}')
    path = coco(folder / "spots_test.json", annotations)
    path.write_text(path.read_text().replace('{"id": 7, "file_name": "a.jpg"}', ", ".join(images)))
    return path
