from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import face_points

from keyposs_trt.datasets import Dataset, Face, Problem
from keyposs_trt.errors import UsageError


def face(**changes: object) -> Face:
    return Face(Path("a.jpg"), face_points(98).astype(np.float32), "x:1", **changes)


def data(*faces: Face) -> Dataset:
    problems = tuple(Problem("x:9", kind, "text") for kind in ("b", "a", "a"))
    return Dataset("WFLW", "wflw", "wflw", Path("x"), faces, problems)


def test_subsets_hold_indices():
    found = data(face(subsets=("train",)), face(subsets=("test", "blur")), face(subsets=("test",)))
    assert {name: index.tolist() for name, index in found.subsets.items()} == {"train": [0], "test": [1, 2], "blur": [1]}
    assert found.subset("test").faces == found.faces[1:]
    assert found.subset("test").problems == ()
    with pytest.raises(UsageError, match="no subset 'pose'; it has train, test, blur"):
        found.subset("pose")
    assert found.problem_counts == {"a": 2, "b": 1}


def test_the_box_around_the_labelled_points():
    labelled = np.ones(98, bool)
    labelled[5] = False
    one = face(labelled=labelled)
    one.points[5] = 0
    expected = np.delete(one.points, 5, 0)
    assert one.landmark_box.tolist() == [*expected.min(0), *expected.max(0)]


def test_another_scheme_takes_masks_along():
    mask = np.arange(98) % 4 == 0
    found = data(face(visibility=mask, labelled=~mask)).as_scheme("300w")
    (one,) = found.faces
    assert found.scheme == "300w"
    assert one.points.shape == (68, 2)
    np.testing.assert_array_equal(one.visibility[:17], mask[:33:2])
    np.testing.assert_array_equal(one.labelled, ~one.visibility)
    assert found.as_scheme("coco_wholebody_face") is found
    with pytest.raises(UsageError, match="'300w' do not give those of 'wflw'"):
        found.as_scheme("wflw")


def test_a_problem_reads_as_place_and_text():
    assert str(Problem("list.txt:7", "truncated", "3 of 207 values")) == "list.txt:7: 3 of 207 values"
