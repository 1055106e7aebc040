"""The detector protocol and loading by name."""

from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.detection import Detections, load_detector, sorted_detections
from keyposs_trt.errors import UsageError


def test_detections_are_sorted_and_weeded() -> None:
    boxes = [[0, 0, 9, 9], [1, 1, 8, 8], [5, 5, 5, 9], [0, 0, np.nan, 9], [2, 2, 9, 9], [3, 3, 3.9, 9], [np.inf, 0, np.inf, 9]]
    found = sorted_detections(boxes, [0.5, 0.9, 0.8, 0.95, 0.3, 0.99, 0.99], min_score=0.4)
    assert found.boxes.tolist() == [[1, 1, 8, 8], [0, 0, 9, 9]]
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    assert found.boxes.dtype == found.scores.dtype == np.float32


def test_no_face_keeps_its_shape() -> None:
    found = sorted_detections([], [])
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)


def test_a_callable_is_a_detector() -> None:
    def mine(image: np.ndarray) -> Detections:
        return sorted_detections([[0, 0, image.shape[1], image.shape[0]]], [1])

    assert load_detector(mine) is mine


@pytest.mark.parametrize("name", ["", "retinaface", "blazeface:fast", "blazeface.onnx"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(UsageError, match="choose one of blazeface"):
        load_detector(name)


def test_yunet_wants_a_file() -> None:
    with pytest.raises(UsageError, match="yunet:FILE"):
        load_detector("yunet")


def test_what_is_no_detector() -> None:
    with pytest.raises(UsageError, match="not int"):
        load_detector(3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_scores_outside_0_and_1(score: float) -> None:
    with pytest.raises(UsageError, match=r"0\.\.1"):
        load_detector(min_score=score)


def test_settings_reach_blazeface() -> None:
    from keyposs_trt.detection.blazeface import BlazeFace

    plain, tiles = load_detector("blazeface", min_score=0.7), load_detector("blazeface:tiles", threads=1)
    assert isinstance(plain, BlazeFace)
    assert isinstance(tiles, BlazeFace)
    assert (plain.min_score, plain.tiles) == (0.7, None)
    assert (tiles.min_score, tiles.tiles) == (0.5, True)
