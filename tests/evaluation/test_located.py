"""A model on all faces of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faces_with_spots import spots
from model_zoo import tiny_model

from keyposs_trt import Landmarker
from keyposs_trt.datasets import open_dataset
from keyposs_trt.detection import Detections
from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.evaluation import evaluate, labelled_faces
from keyposs_trt.evaluation.boxes import BoxSource
from keyposs_trt.evaluation.figures import figures_of
from keyposs_trt.evaluation.located import in_common_scheme, locate_faces
from keyposs_trt.evaluation.locator import open_locator
from keyposs_trt.evaluation.worst import draw_worst


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(spots(tmp_path / "spots"))


@pytest.fixture
def locator(model):
    with open_locator(model, ["model", "argmax"], threads=1) as opened:
        yield opened


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("boxes", ["landmarks", "annotated"])
def test_equals_what_evaluate_does(model, dataset, locator, flip_test, boxes):
    located = locate_faces(locator, dataset, BoxSource(boxes), flip_test)
    row = figures_of(located).rows[0]
    with Landmarker.load(model, detector=None, threads=1) as landmarker:
        report = evaluate(landmarker, labelled_faces(dataset, boxes), flip_test)
    np.testing.assert_array_equal(figures_of(located).errors["model"]["inter_ocular"], report.faces)
    assert (row.nme, row.fr_010, row.auc_010) == (report.nme, report.failure_rate, report.auc)
    assert figures_of(located).parts["model"] == pytest.approx(report.parts)
    assert report.nme < (0.5 if flip_test else 0.05)  # the tiny model's face is not symmetric


def test_the_box_scale_and_the_flip_test_change_something(dataset, locator):
    plain, flipped, wide = (
        locate_faces(locator, dataset, BoxSource("landmarks", scale), flip).points for scale, flip in ((1, False), (1, True), (1.2, False))
    )
    assert np.abs(plain - flipped).max() > 0.01
    assert np.abs(plain - wide).max() > 0.1


def test_damaged_images_and_missing_boxes_are_named(dataset, locator):
    faces = list(dataset.faces)
    Path(faces[0].image).write_bytes(b"x")
    faces[1] = replace(faces[1], box=None)
    faces[2] = replace(faces[2], labelled=np.zeros(68, bool))
    located = locate_faces(locator, replace(dataset, faces=tuple(faces)), BoxSource("annotated"))
    assert [p.kind for p in located.left_out] == ["unreadable image", "no box", "no labelled point"]
    assert located.dataset.faces == (faces[3],)
    assert located.points.shape == (2, 1, 68, 2)
    with pytest.raises(DataError, match=r"None of the 1 faces .* the first: .*record 1"):
        locate_faces(locator, replace(dataset, faces=(faces[0],)), BoxSource())


def test_faces_the_detector_misses_stay(dataset, locator):
    first = dataset.faces[0]
    seen = []

    def detector(image):
        seen.append(image)
        box = first.landmark_box + (0 if len(seen) == 1 else 500)
        return Detections(box[None], np.ones(1, np.float32))

    located = locate_faces(locator, dataset, BoxSource("detector", 1.0, detector))
    assert located.missed.tolist() == [False, True, True, True]
    by_points = locate_faces(locator, dataset, BoxSource())
    np.testing.assert_array_equal(located.points[:, 0], by_points.points[:, 0])
    sheet = draw_worst(located, figures_of(located).errors["model"]["inter_ocular"])
    assert sheet.shape[2] == 3
    with pytest.raises(DataError, match="found none of the 4 faces"):
        locate_faces(locator, dataset, BoxSource("detector", 1.0, detector))


def test_an_image_of_several_faces_is_read_once(dataset, locator):
    shared = dataset.faces[0].image
    faces = tuple(replace(face, image=shared) for face in dataset.faces)
    seen = []

    def detector(image):
        seen.append(image)
        return Detections(np.stack([f.landmark_box for f in faces]), np.ones(4, np.float32))

    locate_faces(locator, replace(dataset, faces=faces), BoxSource("detector", 1.0, detector))
    assert len(seen) == 1


def test_schemes(dataset, tmp_path):
    model = tiny_model(tmp_path / "98.onnx", points=98, scheme="wflw")
    assert in_common_scheme(dataset, "wflw") is dataset  # the model has more points: its own are cut down
    with open_locator(model, threads=1) as locator:
        located = locate_faces(locator, dataset, BoxSource())
        own = locator(dataset.faces[0].read_image(), dataset.faces[0].landmark_box)
    assert located.points.shape == (1, 4, 68, 2)
    index = np.array(locator.scheme.subsets["300w"])
    np.testing.assert_array_equal(located.points[:, 0], own[:, index])
    with pytest.raises(UsageError, match="cannot be compared with those of '300w'"):
        in_common_scheme(dataset, "cofw")
