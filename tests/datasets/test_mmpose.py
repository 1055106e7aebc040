from __future__ import annotations

import numpy as np
import pytest
from dataset_files import coco, face_points, picture, triples

from keyposs_trt.datasets import open_dataset
from keyposs_trt.errors import DataError, UsageError

GENUINE = {"300w": (68, 2), "wflw": (98, 4), "cofw": (29, 2), "aflw": (19, 2), "lapa": (106, 2)}


def annotation(count: int, seed: int = 0, flag: object = 1, **changes: object) -> dict:
    return {"image_id": 7, "keypoints": triples(face_points(count, seed), flag), "bbox": [28, 18, 64, 60], **changes}


@pytest.mark.shared
@pytest.mark.parametrize("name", GENUINE)
def test_genuine_files(shared_data, name):
    data = open_dataset(shared_data / "photos" / name)
    points, faces = GENUINE[name]
    assert (data.format, data.scheme, len(data), data.problems) == ("mmpose", name, faces, ())
    for face in data.faces:
        assert face.points.shape == (points, 2)
        height, width = face.read_image().shape[:2]
        assert face.image_size == (width, height)
        assert (face.points > 0).all()
        assert (face.points < (width, height)).all()
        # The annotated box is about the face: its centre lies within the box around the points.
        centre = (face.box[:2] + face.box[2:]) / 2
        assert (centre > face.landmark_box[:2]).all()
    hidden = [f.visibility is not None and not f.visibility.all() for f in data.faces]
    assert any(hidden) == (name == "cofw")


@pytest.mark.shared
def test_genuine_wflw_as_68_points(shared_data):
    data = open_dataset(shared_data / "photos/wflw/test_wflw.json", scheme="300w")
    for face in data.faces:  # eye corners, left to right in the picture
        assert np.all(np.diff(face.points[[36, 39, 42, 45], 0]) > 0)


@pytest.mark.parametrize(("count", "scheme"), [(98, "wflw"), (68, "300w"), (29, "cofw"), (19, "aflw"), (106, "lapa")])
def test_the_number_of_points_tells_the_scheme(tmp_path, count, scheme):
    picture(tmp_path / "a.jpg")
    data = open_dataset(coco(tmp_path / "x.json", [annotation(count)]))
    assert data.scheme == scheme
    np.testing.assert_allclose(data.faces[0].points, face_points(count), atol=1e-4)
    assert data.faces[0].box.tolist() == [28, 18, 92, 78]


def test_flags_of_two_tell_hidden_points_apart(tmp_path):
    picture(tmp_path / "a.jpg")
    flags = np.full(29, 2)
    flags[3] = 1
    path = coco(tmp_path / "x.json", [annotation(29, 0, flags), annotation(29, 1, 1), annotation(29, 2, np.r_[np.zeros(4), np.ones(25)])])
    first, second, third = open_dataset(path).faces
    assert np.flatnonzero(~first.visibility).tolist() == [3]
    assert not second.visibility.any()
    assert second.labelled is None
    assert np.flatnonzero(~third.labelled).tolist() == [0, 1, 2, 3]
    only_ones = open_dataset(coco(tmp_path / "y.json", [annotation(29)])).faces[0]
    assert only_ones.visibility is None


def test_mmposes_folders_and_splits(tmp_path):
    picture(tmp_path / "images/a.jpg")
    coco(tmp_path / "annotations/face_landmarks_wflw_train.json", [annotation(98, 1)])
    coco(tmp_path / "annotations/face_landmarks_wflw_test.json", [annotation(98, 2), annotation(98, 3)])
    coco(tmp_path / "annotations/face_landmarks_wflw_test_blur.json", [annotation(98, 3)])
    assert len(open_dataset(tmp_path, split="test")) == 2
    assert len(open_dataset(tmp_path, split="face_landmarks_wflw_test_blur")) == 1
    with pytest.raises(DataError, match=r"has 3 annotation files .* name one as the split"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no annotation file of the split 'val', but face_landmarks_wflw_test, "):
        open_dataset(tmp_path, split="val")


def test_wrong_numbers_of_points(tmp_path):
    picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"have 17 points, and no scheme has as many; known are 19 \(aflw\)"):
        open_dataset(coco(tmp_path / "x.json", [annotation(17)]))
    path = coco(tmp_path / "y.json", [annotation(68, 0), annotation(68, 1), annotation(29)])
    assert [p.text for p in open_dataset(path).problems] == ["29 points instead of 68"]
    with pytest.raises(UsageError, match="points of '300w' do not give those of 'wflw'"):
        open_dataset(path, scheme="wflw")
    assert open_dataset(path, scheme="coco_wholebody_face").scheme == "300w"


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a\0b.jpg", "", ".", "\ud800.jpg"])
def test_names_that_no_image_can_have(tmp_path, name):
    with pytest.raises(DataError, match="1 missing image"):
        open_dataset(coco(tmp_path / "x.json", [annotation(29)], name))


@pytest.mark.parametrize("value", [1e300, 10**400, True, "7", None])
def test_values_that_are_no_coordinates(tmp_path, value):
    picture(tmp_path / "a.jpg")
    bad = annotation(29, 1)
    bad["keypoints"][3] = value
    data = open_dataset(coco(tmp_path / "x.json", [annotation(29), bad]))
    assert [p.kind for p in data.problems] == ([] if value is True else ["not a number"])


def test_files_that_are_something_else(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('{"images": [')
    with pytest.raises(DataError, match="not an annotation file in mmpose's JSON layout"):
        open_dataset(file)
    file.write_text('{"images": 3, "annotations": []}')
    with pytest.raises(DataError, match="check the format"):
        open_dataset(file)
