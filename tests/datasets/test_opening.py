from __future__ import annotations

import pytest
from dataset_files import coco, face_points, lapa, picture, pts, teacher, triples, views, wflw, wflw_line

from keyposs_trt.datasets import format_names, open_dataset
from keyposs_trt.errors import DataError, UsageError


@pytest.fixture
def root(tmp_path):
    return wflw(tmp_path / "wflw", {"train": [wflw_line(face_points(98), "0--Parade/a.jpg"), "1 2 3"]})


def test_formats():
    assert format_names() == ["wflw", "cofw", "aflw", "coco-wholebody-face", "lapa", "views", "teacher", "300w", "mmpose"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "wider"}, "no data set format 'wider'; choose one of wflw"),
        ({"scheme": "70"}, "no landmark scheme '70'"),
        ({"scheme": "lapa"}, "'wflw' do not give those of 'lapa'; choose one of wflw, 300w"),
        ({"split": "val"}, "WFLW has no split 'val'; choose one of train, test"),
        ({"on_problem": "ignore"}, "choose one of skip, refuse"),
    ],
)
def test_names_that_do_not_exist(root, arguments, message):
    with pytest.raises(UsageError, match=message):
        open_dataset(root, **arguments)


def test_problems_are_skipped_or_refused(root):
    assert len(open_dataset(root, on_problem="skip").problems) == 1
    with pytest.raises(DataError, match=r"1 problem \(1 truncated\), first .*train\.txt:2: 3 of 207 values"):
        open_dataset(root, on_problem="refuse")


def test_nothing_there_and_nothing_known(tmp_path):
    with pytest.raises(DataError, match=r"There is no data set '.*gone'"):
        open_dataset(tmp_path / "gone")
    with pytest.raises(DataError, match=r"of a known format\. Looked for .*\(WFLW\).*\(COFW\).*\(300W\).*\(mmpose's layout\)"):
        open_dataset(tmp_path)
    for name in ("a.txt", "a.mat", "a.json", "a.jpg"):
        (tmp_path / name).write_bytes(b"\x00\xff{")
        with pytest.raises(DataError, match="no data set of a known format"):
            open_dataset(tmp_path / name)


@pytest.mark.parametrize("name", format_names())
def test_a_format_named_for_something_else(tmp_path, name):
    """Whatever lies there, a named format answers with one sentence of what is wrong."""
    picture(tmp_path / "a.jpg")
    other = tmp_path / "other.bin"
    other.write_bytes(bytes(range(256)) * 10)
    for path in (tmp_path, tmp_path / "a.jpg", other):
        with pytest.raises(DataError):
            open_dataset(path, name)


def test_the_nearest_format_wins(tmp_path):
    lapa(tmp_path / "lapa", "train", "a", face_points(106))
    pts(tmp_path / "300w/afw/a.pts", face_points(68))
    picture(tmp_path / "json/a.jpg")
    coco(tmp_path / "json/x.json", [{"image_id": 7, "keypoints": triples(face_points(29))}])
    teacher(tmp_path / "faces/women", ["1.jpg"])
    views(tmp_path / "views/a.npz")
    found = {name: open_dataset(tmp_path / name).format for name in ("lapa", "300w", "json", "faces", "views")}
    assert found == {"lapa": "lapa", "300w": "300w", "json": "mmpose", "faces": "teacher", "views": "views"}
