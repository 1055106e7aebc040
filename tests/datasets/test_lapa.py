from __future__ import annotations

import numpy as np
import pytest
from dataset_files import face_points, lapa, picture

from keyposs_trt.datasets import open_dataset
from keyposs_trt.errors import DataError


@pytest.fixture
def root(tmp_path):
    for split, stem in (("train", "a"), ("train", "b"), ("val", "c"), ("test", "d_0")):
        lapa(tmp_path, split, stem, face_points(106, ord(stem[0])))
    return tmp_path


def test_points_and_splits(root):
    data = open_dataset(root)
    assert (data.format, data.scheme, data.problems) == ("lapa", "lapa", ())
    assert {name: len(index) for name, index in data.subsets.items()} == {"train": 2, "val": 1, "test": 1}
    np.testing.assert_allclose(data.faces[0].points, face_points(106, ord("a")), atol=1e-4)
    assert len(open_dataset(root, split="train")) == 2
    assert open_dataset(root / "val").faces[0].subsets == ("val",)


@pytest.mark.parametrize(
    ("edit", "kind", "where"),
    [
        (lambda t: t[: len(t) // 2].rsplit("\n", 1)[0], "truncated", ""),
        (lambda t: t.rstrip().rsplit(" ", 1)[0], "truncated", ":107"),
        (lambda t: t + "1 2\n", "wrong point count", ""),
        (lambda t: t.replace("106", "105", 1), "wrong point count", ""),
        (lambda t: t.replace("106", "106 points", 1), "damaged record", ":1"),
        (lambda t: "", "damaged record", ":1"),
        (lambda t: t.replace(" ", ",", 1), "not a number", ":2"),
        (lambda t: "1\n5 5\n", "wrong point count", ""),
    ],
)
def test_damaged_files(root, edit, kind, where):
    file = root / "train/landmarks/a.txt"
    file.write_text(edit(file.read_text()))
    data = open_dataset(root)
    assert len(data) == 3
    assert [(p.kind, p.where) for p in data.problems] == [(kind, f"{file}{where}")]


def test_halves_of_a_pair(root):
    (root / "train/images/a.jpg").unlink()
    picture(root / "train/images/spare.jpg")
    assert [p.kind for p in open_dataset(root).problems] == ["missing image", "missing annotation"]
    with pytest.raises(DataError, match="missing annotation"):
        open_dataset(root, on_problem="refuse")
