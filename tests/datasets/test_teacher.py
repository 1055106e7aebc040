from __future__ import annotations

import numpy as np
import pytest
from dataset_files import face_points, teacher

from keyposs_trt.datasets import open_dataset
from keyposs_trt.datasets.teacher import TEACHER_68
from keyposs_trt.errors import DataError


@pytest.fixture
def root(tmp_path):
    teacher(tmp_path / "women", ["006.jpg", "007.jpg", "x_17.jpg"])
    teacher(tmp_path / "men", ["027.jpg", "7_0.jpg"])
    (tmp_path / "other").mkdir()
    return tmp_path


def test_a_folder_of_folders(root):
    data = open_dataset(root)
    assert (data.format, data.scheme, data.problems) == ("teacher", "300w", ())
    subsets = {name: len(index) for name, index in data.subsets.items()}
    assert subsets == {"unseen": 3, "seen": 2, "men": 2, "women": 3}
    face = data.faces[3]
    assert (face.image, face.where) == (root / "women/007.jpg", f"{root / 'women/mediapipe478.npz'}, record 2")
    np.testing.assert_allclose(face.points, face_points(478, 1)[TEACHER_68], atol=1e-4)


def test_the_unseen_split(root):
    assert [f.image_name for f in open_dataset(root, split="unseen").faces] == ["027.jpg", "007.jpg", "x_17.jpg"]
    for path in (root / "women", root / "women/mediapipe478.npz"):
        assert [f.image_name for f in open_dataset(path, split="seen").faces] == ["006.jpg"]


def test_the_vertices_are_68_of_478():
    assert TEACHER_68.shape == (68,)
    assert TEACHER_68.max() < 478
    assert len(set(TEACHER_68.tolist())) == 68


def test_problems_are_named(root):
    (root / "men/7_0.jpg").unlink()
    points = np.array([np.c_[face_points(478, seed), np.zeros(478)] for seed in range(3)], np.float32)
    points[2, 127] = np.nan
    teacher(root / "women", ["006.jpg", "007.jpg", "x_17.jpg"], points=points)
    data = open_dataset(root)
    assert [(p.where.rsplit("/", 2)[1:], p.kind) for p in data.problems] == [
        (["men", "mediapipe478.npz, record 2"], "missing image"),
        (["women", "mediapipe478.npz, record 3"], "not a number"),
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"points": np.zeros((3, 468, 3))}, "points (3, 468, 3) and names (3,)"),
        ({"points": np.zeros((2, 478, 3))}, "points (2, 478, 3) and names (3,)"),
        ({"names": np.array([1, 2, 3])}, "numbers and texts"),
        ({"names": np.array([None])}, "cannot be read as .npz"),
    ],
)
def test_damaged_files(root, changes, text):
    teacher(root / "women", ["006.jpg", "007.jpg", "x_17.jpg"], **changes)
    data = open_dataset(root)
    assert len(data) == 2
    assert [(p.where, p.kind) for p in data.problems] == [(str(root / "women/mediapipe478.npz"), "damaged record")]
    assert text in data.problems[0].text


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"no 'mediapipe478\.npz' in"):
        open_dataset(tmp_path, "teacher")


@pytest.mark.shared
def test_the_genuine_files(shared_data):
    data = open_dataset(shared_data, "teacher")
    assert {name: len(index) for name, index in data.subsets.items()} == {"seen": 659, "headshots": 532, "unseen": 73, "portraits": 200}
    assert data.problems == ()
