from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_files import face_points

from keyposs_trt.datasets import Dataset, Face, Problem
from keyposs_trt.datasets.summary import summarise


def test_counts_sizes_and_shares():
    points = face_points(29).astype(np.float32)
    points[0], points[1] = (10, 20), (110, 60)
    hidden = np.arange(29) == 3
    faces = (
        Face(Path("a.jpg"), points, "x:1", ~hidden, None, np.zeros(4, np.float32), ("test",), (200, 100)),
        Face(Path("a.jpg"), points * 2, "x:2", None, ~hidden, None, ("test",), (200, 100)),
        Face(Path("b.jpg"), points, "x:3", image_size=(120, 300)),
    )
    found = summarise(Dataset("COFW", "cofw", "cofw", Path("x"), faces, (Problem("x:4", "truncated", "short"),)))
    assert (found["faces"], found["images"], found["boxes"]) == (3, 2, 1)
    assert found["subsets"] == {"test": 2}
    assert found["face_size"] == {"smallest": 100, "median": 100, "largest": 200}
    assert found["image_size"] == {"smallest": 200, "median": 250, "largest": 300}
    assert found["hidden_points"] == pytest.approx(1 / 29)
    assert found["unlabelled_points"] == pytest.approx(1 / 87)
    assert found["faces_beyond_image"] == 1
    assert found["problems"] == [{"where": "x:4", "kind": "truncated", "text": "short"}]
    assert json.loads(json.dumps(found)) == found
