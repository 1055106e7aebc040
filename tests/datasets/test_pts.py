from __future__ import annotations

import numpy as np
import pytest
from dataset_files import face_points, picture, pts

from keyposs_trt.datasets import open_dataset
from keyposs_trt.datasets.pts import subsets_of
from keyposs_trt.errors import DataError, UsageError

FOLDERS = ["afw", "helen/trainset", "helen/testset", "lfpw/trainset", "lfpw/testset", "ibug", "300W/01_Indoor", "300W/02_Outdoor"]


@pytest.fixture
def root(tmp_path):
    for number, folder in enumerate(FOLDERS):
        pts(tmp_path / "data" / folder / f"image_{number}.pts", face_points(68, number), ".png" if number % 2 else ".jpg")
    return tmp_path / "data"


def test_one_is_subtracted(root):
    data = open_dataset(root)
    assert (data.format, data.scheme, len(data), data.problems) == ("300w", "300w", 8, ())
    by_name = {f.image_name: f for f in data.faces}
    np.testing.assert_allclose(by_name["image_1.png"].points, face_points(68, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("split", "numbers"),
    [("train", "013"), ("common", "24"), ("challenge", "5"), ("full", "245"), ("private", "67"), ("test", "67"), (None, "01234567")],
)
def test_splits(root, split, numbers):
    assert sorted(f.image_name[6] for f in open_dataset(root, split=split).faces) == list(numbers)


def test_a_folder_of_the_data_set_knows_its_split(root):
    assert open_dataset(root / "helen/testset").faces[0].subsets == ("common", "full", "helen")
    assert open_dataset(root / "ibug/image_5.pts").faces[0].subsets == ("challenge", "full", "ibug")
    assert set(open_dataset(root).subsets) >= {"afw", "helen", "lfpw", "ibug", "indoor", "outdoor"}


def test_folders_of_ones_own_have_no_split(tmp_path):
    assert subsets_of(("mine",)) == ()
    pts(tmp_path / "test/mine/a.pts", face_points(68))
    assert open_dataset(tmp_path / "test").faces[0].subsets == ()
    with pytest.raises(DataError, match=r"no \.pts file of the split 'train'"):
        open_dataset(tmp_path / "test", split="train")
    with pytest.raises(UsageError, match="no split 'val'; choose one of train, common"):
        open_dataset(tmp_path / "test", split="val")


@pytest.mark.parametrize(
    ("old", "new", "kind", "where"),
    [
        ("}\n", "", "truncated", ""),
        ("\n}", "\n12\n}", "truncated", ":72"),
        ("\n}", "\n12 13\n}", "wrong point count", ""),
        ("n_points:  68", "n_points:  67", "wrong point count", ""),
        ("n_points:  68\n", "", "damaged record", ""),
        ("{\n", "{\nx y\n", "not a number", ":4"),
        ("{\n", "{\nnan 5\n", "wrong point count", ""),
    ],
)
def test_damaged_files(root, old, new, kind, where):
    file = root / "afw/image_0.pts"
    file.write_text(file.read_text().replace(old, new))
    data = open_dataset(root)
    assert len(data) == 7
    assert [(p.kind, p.where) for p in data.problems] == [(kind, f"{file}{where}")]


def test_not_68_points_nan_and_no_image(root):
    pts(root / "afw/few.pts", face_points(5))
    pts(root / "afw/nan.pts", np.where(np.arange(136).reshape(68, 2) == 8, np.nan, face_points(68)))
    pts(root / "afw/none.pts", face_points(68, 20)).with_suffix(".jpg").unlink()
    picture(root / "afw/spare.jpg")  # an image without points is no face
    data = open_dataset(root, split="train")
    assert len(data) == 3
    assert {p.where.rsplit("/", 1)[1]: p.kind for p in data.problems} == {
        "few.pts": "wrong point count",
        "nan.pts": "not a number",
        "none.pts": "missing image",
    }
