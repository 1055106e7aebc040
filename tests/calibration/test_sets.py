from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from keyposs_trt.calibration import collect
from keyposs_trt.crop import crop_faces
from keyposs_trt.detection import load_detector
from keyposs_trt.errors import DataError, UsageError


def one_box(image):
    """Finds a face everywhere but in black pictures; a second, worse one stands behind it."""
    return [[4, 4, 24, 28], [0, 0, 5, 5]] if image.any() else []


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "more").mkdir()
    for i in range(12):
        name = f"more/{i}.png" if i % 3 == 0 else f"{i}.PNG"
        assert cv2.imwrite(str(tmp_path / name), rng.integers(1, 256, (32, 40, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_crops_are_those_of_the_runtime(folder):
    found = collect(folder, 5, one_box, size=16)
    assert len(found) == len(found.names) == 5
    assert found.crops.dtype == np.uint8
    # Box 20 x 24: a square of 1.25 x 24 about (14, 16).
    want, _ = crop_faces(cv2.imread(str(folder / found.names[2])), [[14, 16, 30]], 16)
    np.testing.assert_array_equal(found.crops[2:3], want)


def test_the_choice_can_be_made_again_elsewhere(folder, tmp_path_factory):
    first = collect(folder, 5, one_box, size=16)
    copy = tmp_path_factory.mktemp("copy")
    (copy / "more").mkdir()
    for path in sorted(folder.rglob("*.*"), reverse=True):
        (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    again = collect(copy, 5, one_box, size=16)
    assert (again.names, again.digest) == (first.names, first.digest)
    np.testing.assert_array_equal(again.crops, first.crops)


def test_a_larger_set_holds_the_smaller_and_another_seed_chooses_otherwise(folder):
    small, large, other = (collect(folder, n, one_box, size=8, seed=s) for n, s in ((4, 0), (8, 0), (4, 1)))
    assert large.names[:4] == small.names
    assert len(set(large.names)) == 8
    assert set(other.names) != set(small.names)
    assert len({small.digest, large.digest, other.digest}) == 3


def test_the_digest_follows_the_content(folder):
    before = collect(folder, 3, one_box, size=8)
    (folder / before.names[0]).write_bytes((folder / before.names[1]).read_bytes())
    assert collect(folder, 3, one_box, size=8).digest != before.digest


def test_an_image_without_a_face_is_passed_over(folder):
    dropped = collect(folder, 1, one_box, size=8).names[0]
    assert cv2.imwrite(str(folder / dropped), np.zeros((8, 8, 3), np.uint8))
    assert dropped not in collect(folder, 11, one_box, size=8).names


def test_batches_hold_every_crop_once(folder):
    found = collect(folder, 5, one_box, size=8)
    batches = list(found.batches(2))
    assert [len(b) for b in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), found.crops)


def test_refused(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="no folder"):
        collect(empty / "nothing", 1, one_box, size=8)
    with pytest.raises(DataError, match="has 0 images with a face among 0 images, 1 are needed"):
        collect(empty, 1, one_box, size=8)
    with pytest.raises(DataError, match="has 12 images with a face among 12 images, 13 are needed"):
        collect(folder, 13, one_box, size=8)
    with pytest.raises(UsageError, match="at least one image, not 0"):
        collect(folder, 0, one_box, size=8)


def test_an_unreadable_image_is_named(folder):
    broken = "more/broken.jpg"
    (folder / broken).write_bytes(b"not an image")
    with pytest.raises(DataError, match=rf"{broken}.* take it out of the folder, or skip"):
        collect(folder, 13, one_box, size=8)


def test_with_the_shipped_detector(tmp_path):
    photo = Path(__file__).resolve().parents[2] / "examples/astronaut.jpg"
    (tmp_path / photo.name).write_bytes(photo.read_bytes())
    detector = load_detector()
    found = collect(tmp_path, 1, lambda image: detector(image).boxes, size=128)
    assert found.names == ("astronaut.jpg",)
    # A face fills the middle of the crop: skin, redder than blue, in RGB order.
    middle = found.crops[0, 48:80, 48:80].mean((0, 1))
    assert middle[0] > middle[2] + 20
