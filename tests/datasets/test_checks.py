from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dataset_files import HEIGHT, WIDTH, face_points, picture

from keyposs_trt.datasets import Face, Problem, checks
from keyposs_trt.errors import DataError


@pytest.fixture
def face(tmp_path):
    return Face(picture(tmp_path / "a.png"), face_points(68).astype(np.float32), "list:1")


def check(face: Face) -> Face | Problem:
    return checks.check_face(face, 68, checks.Sizes())


def test_a_good_face_learns_the_size_of_its_image(face):
    checked = check(face)
    assert isinstance(checked, Face)
    assert checked.image_size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(("shift", "fine"), [(0, True), (40, True), (80, True), (140, False), (-20, True), (-95, False)])
def test_a_face_at_the_rim_is_kept_and_one_outside_is_not(face, shift, fine):
    moved = replace(face, points=face.points + np.array([shift, 0], np.float32))
    assert isinstance(check(moved), Face if fine else Problem)


def test_a_flat_face_just_below_the_image_is_outside(face):
    problem = check(replace(face, points=face.points * np.float32([1, 0.1]) + np.float32([0, HEIGHT])))
    assert isinstance(problem, Problem)
    assert problem.text == "all points lie outside the image of 120x100 pixels"


@pytest.mark.parametrize("stray", [(30, 400), (-300, 30), (3000, 3000), (1e30, 0)])
def test_one_stray_point_does_not_make_room_for_itself(face, stray):
    points = face.points.copy()
    points[17] = stray
    problem = check(replace(face, points=points))
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.text[:8]) == (checks.OUTSIDE, "point 17")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"points": np.full((68, 2), 5, np.float32)}, checks.NO_SIZE),
        ({"points": np.zeros((67, 2), np.float32)}, checks.WRONG_COUNT),
        ({"points": np.full((68, 2), np.inf, np.float32)}, checks.NOT_A_NUMBER),
        ({"labelled": np.zeros(68, bool)}, checks.MISSING_ANNOTATION),
        ({"box": np.array([0, 0, np.nan, 5], np.float32)}, checks.NOT_A_NUMBER),
    ],
)
def test_kinds(face, changes, kind):
    problem = check(replace(face, **changes))
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.where) == (kind, "list:1")


def test_points_without_label_are_not_looked_at(face):
    points, labelled = face.points.copy(), np.ones(68, bool)
    points[:2], labelled[:2] = [[np.nan, 0], [1e6, 0]], False
    assert isinstance(check(replace(face, points=points, labelled=labelled)), Face)


def test_images_missing_empty_and_damaged(face, tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    kinds = [check(replace(face, image=tmp_path / name)).kind for name in ("gone.png", "empty.png", "text.jpg")]
    assert kinds == [checks.MISSING_IMAGE, checks.DAMAGED_IMAGE, checks.DAMAGED_IMAGE]


def test_duplicates_are_the_same_points_on_the_same_image(face, tmp_path):
    other = Face(picture(tmp_path / "b.png"), face.points, "list:2")
    copy = replace(face, where="list:3", points=face.points + np.float32(1e-4))
    moved = replace(face, where="list:4", points=face.points + 1)
    data = checks.collect("x", "mmpose", "300w", tmp_path, [face, other, copy, moved])
    assert len(data) == 3
    assert [(p.where, p.kind) for p in data.problems] == [("list:3", checks.DUPLICATE)]
    assert "list:1" in data.problems[0].text


def test_nothing_usable_is_an_error_that_counts(face, tmp_path):
    bad = [replace(face, where=f"list:{i}", image=tmp_path / "gone.png") for i in range(3)]
    with pytest.raises(DataError, match=r"3 problems \(3 missing image\), first list:0: there is no image"):
        checks.collect("x", "wflw", "300w", tmp_path, bad)
    with pytest.raises(DataError, match="check the path and the split"):
        checks.collect("x", "wflw", "300w", tmp_path, [])


def test_each_image_is_looked_at_once(face, tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(checks, "image_size", lambda path: looked.append(path) or (WIDTH, HEIGHT))
    checks.collect("x", "wflw", "300w", tmp_path, [replace(face, points=face.points + i, where=str(i)) for i in range(5)])
    assert looked == [face.image]
