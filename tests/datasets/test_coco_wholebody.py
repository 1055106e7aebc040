from __future__ import annotations

import numpy as np
import pytest
from dataset_files import coco, face_points, picture, triples

from keyposs_trt.datasets import open_dataset
from keyposs_trt.errors import DataError


def annotation(seed: int, **changes: object) -> dict:
    face = {"image_id": 7, "face_kpts": triples(face_points(68, seed)), "face_box": [28.0, 18.0, 64.0, 60.0], "face_valid": True}
    return {"id": seed, "keypoints": [0] * 51, **face, **changes}


def write(tmp_path, annotations, split="val"):
    picture(tmp_path / f"{split}2017/a.jpg")
    coco(tmp_path / f"annotations/coco_wholebody_{split}_v1.0.json", annotations)
    return tmp_path


def test_faces_boxes_and_those_without_face(tmp_path):
    data = open_dataset(write(tmp_path, [annotation(0), annotation(1, face_valid=False), annotation(2)]))
    assert (data.format, data.scheme, len(data), data.problems) == ("coco-wholebody-face", "300w", 2, ())
    np.testing.assert_allclose(data.faces[1].points, face_points(68, 2), atol=1e-4)
    assert data.faces[0].box.tolist() == [28, 18, 92, 78]
    assert data.faces[0].subsets == ("val",)
    assert data.faces[0].image.samefile(tmp_path / "val2017/a.jpg")


def test_flags(tmp_path):
    flags = np.full(68, 2)
    flags[:4], flags[4] = 0, 1
    points = face_points(68)
    points[:4] = 0
    face = open_dataset(write(tmp_path, [annotation(0, face_kpts=triples(points, flags))])).faces[0]
    assert np.flatnonzero(~face.labelled).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(~face.visibility).tolist() == [0, 1, 2, 3, 4]
    assert face.landmark_box[:2].min() > 10  # the points at 0, 0 do not count


def test_splits_and_one_file(tmp_path):
    write(tmp_path, [annotation(0)])
    write(tmp_path, [annotation(1), annotation(2)], "train")
    assert len(open_dataset(tmp_path)) == 3
    assert len(open_dataset(tmp_path, split="train")) == 2
    file = tmp_path / "annotations/coco_wholebody_val_v1.0.json"
    assert open_dataset(file).format == "coco-wholebody-face"
    with pytest.raises(DataError, match="split"):
        open_dataset(file, split="train")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"face_kpts": triples(face_points(68))[:-1]}, "wrong point count"),
        ({"face_kpts": triples(face_points(60))}, "wrong point count"),
        ({"face_kpts": None}, "not a number"),
        ({"face_kpts": [float("nan"), *triples(face_points(68))[1:]]}, "not a number"),
        ({"face_kpts": triples(face_points(68), 0)}, "missing annotation"),
        ({"face_kpts": triples(face_points(68) + 700)}, "point far outside the image"),
        ({"image_id": 8}, "damaged record"),
        ({"image_id": [8]}, "damaged record"),
    ],
)
def test_damaged_records(tmp_path, changes, kind):
    data = open_dataset(write(tmp_path, [annotation(0), annotation(1, **changes), "x", annotation(0)]))
    assert [(p.where.rsplit(", ")[1], p.kind) for p in data.problems] == [
        ("record 2", kind),
        ("record 3", "damaged record"),
        ("record 4", "duplicate"),
    ]
