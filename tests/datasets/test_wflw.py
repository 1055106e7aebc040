from __future__ import annotations

import re

import numpy as np
import pytest
from dataset_files import face_points, wflw, wflw_line

from keyposs_trt.datasets import open_dataset
from keyposs_trt.errors import DataError

NAME = "0--Parade/a.jpg"


def line(seed: int, flags: str = "0 0 0 0 0 0", name: str = NAME) -> str:
    return wflw_line(face_points(98, seed), name, flags)


def test_points_box_and_flags(tmp_path):
    root = wflw(tmp_path, {"train": [line(0)], "test": [line(1, "1 0 0 0 1 0"), line(2, "0 1 1 1 0 1")]})
    data = open_dataset(root)
    assert (data.format, data.scheme, data.problems) == ("wflw", "wflw", ())
    np.testing.assert_allclose(data.faces[1].points, face_points(98, 1), atol=1e-4)  # nothing is subtracted
    assert data.faces[1].box.tolist() == [28, 18, 92, 82]
    assert [f.subsets for f in data.faces] == [
        ("train",),
        ("test", "pose", "occlusion"),
        ("test", "expression", "illumination", "make-up", "blur"),
    ]
    assert data.faces[0].image == (root / "WFLW_images" / NAME).absolute()
    assert data.faces[0].visibility is None
    assert data.subset("blur").faces == (data.faces[2],)


def test_split_and_list_by_name(tmp_path):
    root = wflw(tmp_path, {"train": [line(0)], "test": [line(1), line(2)]})
    assert len(open_dataset(root, split="test")) == 2
    file = root / "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_test.txt"
    assert open_dataset(file).subsets["test"].tolist() == [0, 1]
    assert len(open_dataset(root / "WFLW_annotations", split="train")) == 1
    with pytest.raises(DataError, match=r"list_98pt_rect_attr_test\.txt"):
        open_dataset(wflw(tmp_path / "b", {"train": [line(0)]}), split="test")


@pytest.mark.parametrize(
    ("bad", "kind", "text"),
    [
        (line(1)[:700], "truncated", "of 207 values"),
        (line(1).rsplit(" ", 1)[0], "truncated", "206 of 207 values"),
        ("5 " + line(1), "wrong point count", "more than 206 numbers"),
        ("x" + line(1), "not a number", "value 1 is 'x"),
        ("nan " + line(1).split(" ", 1)[1], "not a number", "point 0 is not a finite number"),
        ("9000 " + line(1).split(" ", 1)[1], "point far outside the image", r"point 0 \(9000\.0"),
        (line(1, name="gone.jpg"), "missing image", r"gone\.jpg"),
        (line(0), "duplicate", r"train\.txt:1$"),
    ],
)
def test_a_damaged_line_is_skipped_and_named(tmp_path, bad, kind, text):
    root = wflw(tmp_path, {"train": [line(0), bad, line(2)]})
    data = open_dataset(root)
    assert len(data) == 2
    (problem,) = data.problems
    assert problem.kind == kind
    assert problem.where.endswith("list_98pt_rect_attr_train.txt:2")
    assert re.search(text, problem.text)
    with pytest.raises(DataError, match=r"train\.txt:2"):
        open_dataset(root, on_problem="refuse")


def test_the_300w_points_of_wflw(tmp_path):
    data = open_dataset(wflw(tmp_path, {"train": [line(0)]}), scheme="300w")
    assert data.scheme == "300w"
    np.testing.assert_allclose(data.faces[0].points[:17], face_points(98, 0)[:33:2], atol=1e-4)
