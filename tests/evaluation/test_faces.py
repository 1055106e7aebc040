from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from keyposs_trt.datasets import Dataset, Face
from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.evaluation.faces import LabelledFace, labelled_faces, read_mmpose_json


def write(path, keypoints):
    annotation = {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [{"image_id": 7, "keypoints": keypoints}]}
    path.write_text(json.dumps(annotation))
    return path


def test_reads_points_and_takes_the_box_from_them(tmp_path):
    points = np.arange(29 * 2, dtype=float).reshape(29, 2)
    flat = np.c_[points, np.ones(29)].ravel().tolist()
    (face,) = read_mmpose_json(write(tmp_path / "a.json", flat), "cofw")
    assert face.image == tmp_path / "a.jpg"
    np.testing.assert_array_equal(face.points, points)
    assert face.box.tolist() == [0, 1, 56, 57]


def test_genuine_files(shared_data):
    faces = read_mmpose_json(shared_data / "photos/wflw/test_wflw.json", "wflw", as_scheme="300w")
    assert len(faces) == 4
    assert all(f.points.shape == (68, 2) and f.image.is_file() for f in faces)
    for f in faces:  # eye corners, left to right in the picture
        assert f.points[36, 0] < f.points[39, 0] < f.points[42, 0] < f.points[45, 0]
    assert len(read_mmpose_json(shared_data / "photos/300w/test_300w.json", "300w")) == 2


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no annotation file"):
        read_mmpose_json(tmp_path / "none.json", "300w")
    with pytest.raises(DataError, match="has 87 numbers, '300w' needs 204"):
        read_mmpose_json(write(tmp_path / "a.json", [0.0] * 87), "300w")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(DataError, match="mmpose's JSON layout"):
        read_mmpose_json(tmp_path / "b.json", "300w")
    with pytest.raises(DataError, match="no subset 'wflw'"):
        read_mmpose_json(write(tmp_path / "a.json", [0.0] * 204), "300w", as_scheme="wflw")
    broken = write(tmp_path / "c.json", [0.0] * 204)
    broken.write_text(broken.read_text().replace('"image_id": 7', '"image_id": 8'))
    with pytest.raises(DataError, match="record 1: there is no image with the id 8"):
        read_mmpose_json(broken, "300w")


def test_faces_of_a_data_set_and_which_box():
    points = np.arange(58, dtype=np.float32).reshape(29, 2)
    labelled = np.arange(29) > 0
    face = Face(Path("a.jpg"), points, "list:1", labelled=labelled, box=np.array([1, 2, 3, 4], np.float32))
    data = Dataset("COFW", "cofw", "cofw", Path("x"), (face,))
    (by_points,), (by_box,) = labelled_faces(data), labelled_faces(data, "annotated")
    assert by_points.box.tolist() == [2, 3, 56, 57]
    assert by_box.box.tolist() == [1, 2, 3, 4]
    assert by_box.labelled is labelled
    with pytest.raises(UsageError, match="choose one of landmarks, annotated"):
        labelled_faces(data, "detector")
    with pytest.raises(DataError, match="list:1 has no annotated box"):
        LabelledFace.from_face(Face(Path("a.jpg"), points, "list:1"), "annotated")
