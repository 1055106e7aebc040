from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from dataset_files import HEIGHT, WIDTH, cofw, face_points

from keyposs_trt.datasets import open_dataset
from keyposs_trt.errors import BackendError, DataError

h5py = pytest.importorskip("h5py")


@pytest.fixture
def root(tmp_path):
    cofw(tmp_path / "COFW_train_color.mat", "train", 2)
    cofw(tmp_path / "COFW_test_color.mat", "test", 3)
    return tmp_path


def test_one_is_subtracted_and_flags_are_occlusion(root):
    data = open_dataset(root)
    assert (data.format, data.scheme, data.problems) == ("cofw", "cofw", ())
    assert {name: len(index) for name, index in data.subsets.items()} == {"train": 2, "test": 3}
    face = data.faces[3]
    np.testing.assert_allclose(face.points, face_points(29, 1), atol=1e-4)
    assert face.box.tolist() == [30, 20, 90, 70]
    assert data.faces[0].visibility.tolist() == [False] * 3 + [True] * 26
    assert face.where.endswith("COFW_test_color.mat, record 2")
    assert face.image_size == (WIDTH, HEIGHT)


def test_pictures_are_bgr_and_upright(root):
    colour, grey = (open_dataset(root, split="test").faces[i].read_image() for i in (0, 2))
    assert colour.shape == grey.shape == (HEIGHT, WIDTH, 3)
    assert colour[10, 20].tolist() == [50, 100, 200]
    assert grey[10, 20].tolist() == [200, 200, 200]
    assert colour.sum() == 350


def test_a_picture_can_be_sent_to_another_process(root):
    face = open_dataset(root / "COFW_test_color.mat").faces[1]
    again = pickle.loads(pickle.dumps(face.image))  # noqa: S301 (its own bytes)
    assert again == face.image
    np.testing.assert_array_equal(again.read(), face.read_image())


def test_split_of_one_file(root):
    assert len(open_dataset(root / "COFW_test_color.mat", split="test")) == 3
    with pytest.raises(DataError, match="no COFW faces of the split 'train'"):
        open_dataset(root / "COFW_test_color.mat", split="train")


def test_damaged_records_are_named(root):
    with h5py.File(root / "COFW_test_color.mat", "r+") as file:
        file["phisT"][3, 0] = np.nan
        file["phisT"][4, 1] = 5000
        file["IsT"][0, 2] = h5py.Reference()  # points nowhere
    data = open_dataset(root)
    assert len(data) == 2
    assert [(p.where.rsplit(", ")[1], p.kind) for p in data.problems] == [
        ("record 1", "not a number"),
        ("record 2", "point far outside the image"),
        ("record 3", "damaged image"),
    ]


def test_damaged_files_are_refused(root):
    test = root / "COFW_test_color.mat"
    whole = test.read_bytes()
    with h5py.File(test, "r+") as file:
        values = file["phisT"][()][:58]
        del file["phisT"]
        file["phisT"] = values
    with pytest.raises(DataError, match=r"3 pictures, but points \(58, 3\)"):
        open_dataset(test)
    with h5py.File(test, "r+") as file:
        del file["phisT"]
    with pytest.raises(DataError, match="none of COFW's arrays"):
        open_dataset(test)
    test.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        open_dataset(test)


def test_without_h5py(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BackendError, match="pip install h5py"):
        open_dataset(root)
