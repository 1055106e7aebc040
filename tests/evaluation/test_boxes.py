from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keyposs_trt.datasets import Face
from keyposs_trt.detection import Detections
from keyposs_trt.errors import UsageError
from keyposs_trt.evaluation.boxes import BoxSource, overlap

POINTS = np.array([[10, 20], [30, 60]], np.float32)
FACE = Face(Path("a.jpg"), POINTS, "list:1", box=np.array([0, 0, 40, 80], np.float32))


def finding(*boxes):
    return lambda image: Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32))


def test_each_source():
    assert BoxSource()(FACE, None).tolist() == [10, 20, 30, 60]
    assert BoxSource("annotated")(FACE, None).tolist() == [0, 0, 40, 80]
    assert BoxSource("landmarks", 2.0)(FACE, None).tolist() == [0, 0, 40, 80]
    source = BoxSource("detector", 1.0, finding((100, 100, 140, 140), (11, 19, 31, 62), (0, 0, 80, 80)))
    assert source(FACE, source.candidates(np.zeros((1, 1, 3), np.uint8))).tolist() == [11, 19, 31, 62]


def test_no_box():
    bare = Face(Path("a.jpg"), POINTS, "list:1")
    assert BoxSource("annotated")(bare, None) is None
    assert BoxSource("annotated")(Face(Path("a.jpg"), POINTS, "x", box=np.array([9, 9, 9.5, 50], np.float32)), None) is None
    for boxes in ((), ((100, 100, 140, 140),)):
        source = BoxSource("detector", 1.0, finding(*boxes))
        assert source(FACE, source.candidates(np.zeros((1, 1, 3), np.uint8))) is None


def test_overlap():
    others = np.array([[10, 20, 30, 60], [10, 20, 30, 40], [20, 20, 40, 60], [40, 0, 50, 9]], np.float32)
    np.testing.assert_allclose(overlap(others[0], others), [1, 0.5, 1 / 3, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("teacher",), "no source of boxes"), (("detector",), "detector belongs"), (("landmarks", 0.0), "must be positive")],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        BoxSource(*arguments)
