from __future__ import annotations

import sys

import numpy as np
import pytest
from dataset_files import aflw, face_points

from keyposs_trt.datasets import open_dataset
from keyposs_trt.datasets.aflw import FORMAT
from keyposs_trt.errors import BackendError, DataError

pytest.importorskip("scipy")


@pytest.fixture(autouse=True)
def three_train(monkeypatch):
    monkeypatch.setattr("keyposs_trt.datasets.aflw.TRAIN_FACES", 3)


def test_points_box_mask_and_order(tmp_path):
    data = open_dataset(aflw(tmp_path))
    assert (data.format, data.scheme, data.problems) == ("aflw", "aflw", ())
    assert [f.where.rsplit(" ", 1)[1] for f in data.faces] == list("54321")  # the order of ra, 1-based
    np.testing.assert_allclose(data.faces[0].points, face_points(19, 4), atol=1e-4)
    assert data.faces[0].box.tolist() == [28, 18, 92, 82]
    assert data.faces[0].image == tmp_path / "data/flickr/0/image00004.jpg"
    assert [f.subsets for f in data.faces] == [("train",)] * 3 + [("test", "frontal"), ("test",)]
    assert np.flatnonzero(~data.faces[4].visibility).tolist() == [4]
    assert data.faces[4].labelled is None  # hidden points are annotated


def test_splits(tmp_path):
    aflw(tmp_path)
    sizes = [len(open_dataset(tmp_path / "AFLWinfo_release.mat", split=split)) for split in FORMAT.splits]
    assert dict(zip(FORMAT.splits, sizes, strict=True)) == {"train": 3, "test": 2, "frontal": 1}


def test_damaged_records_are_named(tmp_path):
    points = np.tile(np.concatenate([*face_points(19).T]), (5, 1)) + np.arange(5)[:, None]
    points[0, 3], points[1, 20] = np.nan, -4000
    root = aflw(tmp_path, data=points)
    (root / "data/flickr/0/image00002.jpg").unlink()
    assert {p.where.rsplit(" ", 1)[1]: p.kind for p in open_dataset(root).problems} == {
        "1": "not a number",
        "2": "point far outside the image",
        "3": "missing image",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": np.zeros((5, 37))}, r"data \(5, 37\) instead of \(5, 38\)"),
        ({"bbox": np.zeros((4, 4))}, r"bbox \(4, 4\)"),
        ({"ra": np.array([[1, 1, 2, 3, 4]])}, "ra is not an order of 1 to 5"),
        ({"nameList": np.array([["a.jpg"]], object)}, "nameList has 1 names for 5"),
    ],
)
def test_arrays_that_do_not_belong_together(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        open_dataset(aflw(tmp_path, **changes))


def test_a_file_cut_off_or_of_another_kind(tmp_path):
    from scipy.io import savemat

    file = aflw(tmp_path) / "AFLWinfo_release.mat"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(DataError, match="cannot be read as a MATLAB 5 file"):
        open_dataset(tmp_path)
    savemat(file, {"data": np.zeros((2, 38))})
    with pytest.raises(DataError, match="has no bbox, mask_new, nameList, ra"):
        open_dataset(tmp_path)


def test_without_scipy(tmp_path, monkeypatch):
    aflw(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(BackendError, match="pip install scipy"):
        open_dataset(tmp_path)
