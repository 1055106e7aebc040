from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import DataError, InputError
from keyposs_trt.evaluation.faces import LabelledFace
from keyposs_trt.evaluation.measure import evaluate
from keyposs_trt.images import read_image
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.schemes import load_scheme

SCHEME = load_scheme("300w")


class Fake:
    """Finds the given points, moved to the right by ``shift`` pixels; in a mirror image, their mirror image moved likewise."""

    scheme = SCHEME

    def __init__(self, points, width, shift):
        self.points, self.width, self.shift = points, width, shift

    def __call__(self, image, boxes):
        points = self.points
        if image[0, 0, 0] == 0:  # the marked corner is not on the left: mirrored
            points = points[SCHEME.flip] * [-1, 1] + [self.width - 1, 0]
        points = (points + np.array([self.shift, 0])).astype(np.float32)
        return [Landmarks(points, np.ones(68, np.float32), np.zeros((68, 3), np.float32), boxes[0], 1.0, "300w")]


@pytest.fixture
def face(tmp_path):
    image = np.zeros((100, 120, 3), np.uint8)
    image[:5, :5] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    return LabelledFace.from_points(tmp_path / "a.png", np.random.default_rng(0).uniform(20, 80, (68, 2)))


def test_nme_of_a_known_shift(face):
    norm = np.linalg.norm(face.points[36] - face.points[45])
    report = evaluate(Fake(face.points, 120, 3.0), [face])
    assert report.nme == pytest.approx(3 / norm, rel=1e-4)
    assert all(v == pytest.approx(3 / norm, rel=1e-4) for v in report.parts.values())
    assert report.failure_rate == float(3 / norm > 0.1)


def test_flip_test_cancels_a_constant_shift(face):
    assert evaluate(Fake(face.points, 120, 3.0), [face], flip_test=True).nme == pytest.approx(0, abs=1e-5)


def test_points_without_label_are_left_out(face):
    found = face.points.copy()
    found[SCHEME.parts["nose"][0]] += 1000
    labelled = np.ones(68, bool)
    labelled[list(SCHEME.parts["nose"])] = False
    partly = replace(face, labelled=labelled)
    assert evaluate(Fake(found, 120, 0.0), [face]).nme > 0.1
    report = evaluate(Fake(found, 120, 0.0), [partly])
    assert report.nme == 0
    assert np.isnan(report.parts["nose"])
    assert evaluate(Fake(found, 120, 0.0), [partly, face]).parts["nose"] > 0.1


def test_an_image_inside_a_file(face):
    class Stored:
        name = "x#1"

        def read(self):
            return read_image(face.image)

    assert evaluate(Fake(face.points, 120, 0.0), [replace(face, image=Stored())]).nme == 0


def test_nothing_to_measure_is_an_error(face, tmp_path):
    with pytest.raises(DataError, match="no faces"):
        evaluate(Fake(face.points, 120, 0.0), [])
    gone = LabelledFace(tmp_path / "gone.png", face.points, face.box)
    with pytest.raises(InputError, match=r"gone\.png"):
        evaluate(Fake(face.points, 120, 0.0), [gone])
