"""From key points to the landmark box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keyposs_trt.detection import boxes_of_five_points, sorted_detections
from keyposs_trt.detection.landmark_box import load_outline_map
from keyposs_trt.geometry import box_of_points

FIVE = np.array([[[180.0, 200], [300, 205], [238, 270], [195, 330], [285, 335]]])


@pytest.mark.parametrize("name", ["blazeface", "five_points"])
def test_boxes_move_and_grow_with_the_points(name: str) -> None:
    outline = load_outline_map(name)
    points = np.random.default_rng(0).normal(0, 30, (20, len(outline.mirror), 2)) + 200
    moved = outline.boxes(points * 3 + [7, -5])
    np.testing.assert_allclose(moved, outline.boxes(points) * 3 + [7, -5, 7, -5], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["blazeface", "five_points"])
def test_boxes_turn_with_the_points(name: str) -> None:
    outline = load_outline_map(name)
    points = np.random.default_rng(1).normal(0, 30, (20, len(outline.mirror), 2))
    x1, y1, x2, y2 = outline.boxes(points).T
    turned = outline.boxes(np.stack([-points[..., 1], points[..., 0]], -1))  # a quarter turn
    np.testing.assert_allclose(turned, np.stack([-y2, x1, -y1, x2], -1), atol=1e-3)


@pytest.mark.parametrize("name", ["blazeface", "five_points"])
def test_mirrored_points_give_the_mirrored_box(name: str) -> None:
    outline = load_outline_map(name)
    points = np.random.default_rng(2).normal(0, 30, (20, len(outline.mirror), 2))
    x1, y1, x2, y2 = outline.boxes(points).T
    mirrored = outline.boxes(points[:, list(outline.mirror)] * [-1, 1])
    np.testing.assert_allclose(mirrored, np.stack([-x2, y1, -x1, y2], -1), atol=0.02)


def test_five_points_of_an_upright_face() -> None:
    x1, y1, x2, y2 = boxes_of_five_points(FIVE)[0]
    assert x1 < 160
    assert x2 > 320
    assert 140 < y1 < 200  # the brows, not the forehead
    assert 360 < y2 < 440  # the chin
    assert 0.8 < (x2 - x1) / (y2 - y1) < 1.3


def test_points_that_coincide_give_no_box() -> None:
    boxes = boxes_of_five_points(np.concatenate([np.full((1, 5, 2), 9.0), FIVE]))
    found = sorted_detections(boxes, [0.9, 0.8])
    assert len(found) == 1
    assert found.scores[0] == np.float32(0.8)


@pytest.mark.shared
def test_boxes_on_the_unseen_set(shared_data: Path) -> None:
    import cv2

    from keyposs_trt.datasets.teacher import TEACHER_68
    from keyposs_trt.detection.blazeface import BlazeFace

    detector = BlazeFace(threads=2, tiles=False)
    labels = np.load(shared_data / "headshots" / "mediapipe478.npz")
    overlaps = []
    for name, points in zip(labels["names"], labels["points"], strict=True):
        if Path(name).stem[-2:] not in ("07", "27", "47", "67", "87"):
            continue
        image = cv2.imread(str(shared_data / "headshots" / name))
        boxes, true = detector(image).boxes, box_of_points(points[TEACHER_68, :2])
        inner = np.maximum(np.minimum(boxes[:, 2:], true[2:]) - np.maximum(boxes[:, :2], true[:2]), 0).prod(1)
        outer = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (true[2:] - true[:2]).prod() - inner
        overlaps.append((inner / outer).max(initial=0))
    assert len(overlaps) == 27
    assert np.mean(overlaps) > 0.9
    assert np.min(overlaps) > 0.75
