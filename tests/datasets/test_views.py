from __future__ import annotations

import pickle

import numpy as np
import pytest
from dataset_files import HEIGHT, WIDTH, face_points, jpeg, views

from keyposs_trt.datasets import open_dataset
from keyposs_trt.errors import DataError, UsageError


@pytest.fixture
def root(tmp_path):
    views(tmp_path / "0_b.npz")
    views(tmp_path / "0_a.npz", 2)
    (tmp_path / ".0_c.1234.npz").write_bytes(b"half written")
    return tmp_path


def test_portraits_and_rendered_views(root):
    data = open_dataset(root)
    assert (data.format, data.scheme, data.name, data.problems) == ("views", "300w", "Rendered views", ())
    assert {name: index.tolist() for name, index in data.subsets.items()} == {"portraits": [0, 2], "rendered": [1, 3, 4]}
    face = data.faces[3]
    np.testing.assert_array_equal(face.points, face_points(68, 1).astype(np.float32))
    assert (face.where, face.image_name) == (f"{root / '0_b.npz'}, view 2", "0_b.npz#2")
    assert face.image_size == (WIDTH, HEIGHT)
    assert [f.read_image()[0, 0, 0] for f in data.faces] == [50, 70, 50, 70, 90]
    assert face.read_image().shape == (HEIGHT, WIDTH, 3)


def test_splits_and_a_single_file(root):
    assert [f.image_name for f in open_dataset(root, split="portraits").faces] == ["0_a.npz#1", "0_b.npz#1"]
    data = open_dataset(root / "0_b.npz", split="rendered")
    assert [f.image_name for f in data.faces] == ["0_b.npz#2", "0_b.npz#3"]
    with pytest.raises(UsageError, match="no split 'test'; choose one of portraits, rendered"):
        open_dataset(root, split="test")


def test_nothing_is_decoded_when_it_is_opened(root, monkeypatch):
    monkeypatch.setattr("keyposs_trt.datasets.sizes.decode_image", None)
    monkeypatch.setattr("keyposs_trt.datasets.views.decode_image", None)
    assert len(open_dataset(root)) == 5


def test_a_picture_can_be_sent_to_another_process_and_a_file_changed(root):
    face = open_dataset(root).faces[1]
    again = pickle.loads(pickle.dumps(face.image))  # noqa: S301 (its own bytes)
    assert again == face.image
    assert len(pickle.dumps(face.image)) < 1000
    np.testing.assert_array_equal(again.read(), face.read_image())
    one = jpeg(30, 20)
    views(root / "0_a.npz", 1, images=one, ends=np.array([len(one)]))
    with pytest.raises(DataError, match="has 1 views, no view 2"):
        again.read()
    (root / "0_a.npz").unlink()
    with pytest.raises(DataError, match="Cannot read"):
        again.read()


def test_damaged_views_are_named(tmp_path):
    points = np.stack([face_points(68, seed) for seed in range(5)])
    points[1, 7, 0] = np.nan
    points[2] += 5000
    whole = jpeg()
    pictures = [whole, whole, whole, whole[:0], np.zeros(99, np.uint8)]
    ends = np.cumsum([len(p) for p in pictures])
    data = open_dataset(views(tmp_path / "a.npz", 5, images=np.concatenate(pictures), ends=ends, points=points))
    assert [f.where[-6:] for f in data.faces] == ["view 1"]
    assert [(p.where, p.kind) for p in data.problems] == [
        (f"{tmp_path / 'a.npz'}, view {number}", kind)
        for number, kind in ((2, "not a number"), (3, "point far outside the image"), (4, "damaged image"), (5, "damaged image"))
    ]
    assert "View 4 of" in data.problems[2].text


def test_a_picture_that_breaks_off_is_found_when_it_is_read(tmp_path):
    half = jpeg()[:-40]
    face = open_dataset(views(tmp_path / "a.npz", 1, images=half, ends=np.array([len(half)]))).faces[0]
    with pytest.raises(DataError, match=r"'a\.npz#1' is cut off"):
        face.read_image()


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"points": np.zeros((2, 68, 2), np.float32)}, "wrong point count", "points of 2 views, but 3 pictures"),
        ({"points": np.zeros((3, 136), np.float32)}, "damaged record", r"its points are float32 \(3, 136\)"),
        ({"points": np.array(["a", "b", "c"])}, "damaged record", "its points are <U1"),
        ({"points": np.array([None])}, "damaged record", "cannot be read as .npz"),
        ({"ends": np.array([10, 5, 20])}, "damaged record", "but end at 20; render it again"),
        ({"ends": np.array([1e9, 2e9, 3e9])}, "damaged record", "pictures as bytes"),
        ({"ends": np.array([10**9, 2 * 10**9, 3 * 10**9])}, "damaged record", "bytes, but end at 3000000000"),
        ({"images": np.zeros(5)}, "damaged record", "pictures as bytes"),
    ],
)
def test_arrays_that_do_not_belong_together(root, changes, kind, text):
    views(root / "0_b.npz", 3, **changes)
    data = open_dataset(root)
    assert len(data) == 2
    ((where, found),) = [(p.where, p.kind) for p in data.problems]
    assert (where, found) == (str(root / "0_b.npz"), kind)
    with pytest.raises(DataError, match=text):
        open_dataset(root, on_problem="refuse")


def test_a_point_too_few(root):
    views(root / "0_b.npz", 3, points=np.zeros((3, 67, 2)))
    problems = open_dataset(root).problems
    assert [(p.where[-6:], p.kind, p.text) for p in problems] == [
        (f"view {n}", "wrong point count", "67 points instead of 68") for n in (1, 2, 3)
    ]


def test_damaged_files(root):
    file = root / "0_b.npz"
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 3] ^= 0xFF  # inside the pictures: the checksum finds it
    for data, text in ((whole[: len(whole) // 2], "not a zip file"), (bytes(changed), "Bad CRC-32"), (b"", "not a zip file")):
        file.write_bytes(data)
        found = open_dataset(root)
        assert (len(found), [p.kind for p in found.problems]) == (2, ["damaged record"])
        assert text in found.problems[0].text
    np.savez(file, images=jpeg(), ends=np.array([len(jpeg())]))
    assert "lacks the array 'points'; make or copy it again" in open_dataset(root).problems[0].text


def test_only_damaged_files_or_none(tmp_path):
    with pytest.raises(DataError, match=r"no \.npz file of rendered views"):
        open_dataset(tmp_path, "views")
    views(tmp_path / "a.npz", points=np.zeros(1))
    with pytest.raises(DataError, match="No face of"):
        open_dataset(tmp_path)
