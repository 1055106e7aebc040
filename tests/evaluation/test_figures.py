"""Figures against a plain computation, on given landmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keyposs_trt.datasets import Dataset, Face
from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.evaluation.ced import cumulative
from keyposs_trt.evaluation.figures import check_norms, figures_of
from keyposs_trt.evaluation.located import Located
from keyposs_trt.evaluation.worst import worst_faces
from keyposs_trt.schemes import load_scheme

SCHEME = load_scheme("300w")
SUBSETS = [("test",), ("test", "blur"), ("test",), ("test", "blur")]


@pytest.fixture
def located():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (4, 68, 2)).astype(np.float32)
    points = truth + rng.normal(0, 5, (2, 4, 68, 2)).astype(np.float32) * np.array([1, 2])[:, None, None, None]
    box = np.array([0, 0, 100, 64], np.float32)
    faces = [Face(Path(f"{i}.jpg"), truth[i], f"x:{i}", box=box, subsets=SUBSETS[i]) for i in range(4)]
    dataset = Dataset("x", "wflw", "300w", Path("x"), tuple(faces))
    return Located(dataset, ("model", "dark"), points.astype(np.float32), np.tile(box, (4, 1)), ())


def with_face(located, number, **changes):
    faces = list(located.dataset.faces)
    faces[number] = replace(faces[number], **changes)
    return replace(located, dataset=replace(located.dataset, faces=tuple(faces)))


def plain_nme(points, face, norm):
    return sum(np.hypot(*(p - g)) for p, g in zip(points.astype(float), face.points.astype(float), strict=True)) / len(points) / norm


def test_rows_are_the_plain_figures(located):
    figures = figures_of(located, ["inter_ocular", "box"])
    rows = {(r.decoder, r.norm, r.subset): r for r in figures.rows}
    assert len(rows) == len(figures.rows) == 2 * 2 * 3
    for d, decoder in enumerate(located.decoders):
        for norm in ("inter_ocular", "box"):
            errors = [
                plain_nme(located.points[d, i], f, 80 if norm == "box" else np.hypot(*(f.points[36] - f.points[45]).astype(float)))
                for i, f in enumerate(located.dataset.faces)
            ]
            np.testing.assert_allclose(figures.errors[decoder][norm], errors, rtol=1e-6)
            for subset, index in (("all", [0, 1, 2, 3]), ("test", [0, 1, 2, 3]), ("blur", [1, 3])):
                row, e = rows[decoder, norm, subset], np.array(errors)[index]
                assert (row.faces, row.missed) == (len(e), 0)
                assert row.nme == pytest.approx(e.mean())
                assert row.fr_008 == np.mean(e > 0.08)
                assert row.fr_010 == np.mean(e > 0.1)
                assert row.auc_010 == pytest.approx(np.mean([max(0, 0.1 - v) / 0.1 for v in e]))
    assert figures.norm_box == "annotated"
    assert 0 < rows["model", "box", "all"].fr_008 < 1 or rows["model", "box", "all"].auc_010 > 0


def test_parts_together_are_the_whole(located):
    parts = figures_of(located).parts["dark"]
    weights = {name: len(index) / 68 for name, index in SCHEME.parts.items()}
    whole = next(r for r in figures_of(located).rows if r.decoder == "dark").nme
    assert sum(parts[name] * w for name, w in weights.items()) == pytest.approx(whole)


def test_unlabelled_points_do_not_count(located):
    nose = list(SCHEME.parts["nose"])
    labelled = np.ones(68, bool)
    labelled[nose] = False
    before = figures_of(located).errors["model"]["inter_ocular"]
    points = located.points.copy()
    points[:, 1, nose] += 1000
    figures = figures_of(with_face(replace(located, points=points), 1, labelled=labelled))
    after = figures.errors["model"]["inter_ocular"]
    np.testing.assert_array_equal(after[[0, 2, 3]], before[[0, 2, 3]])
    assert after[1] < 2 * before[1]
    assert figures.parts["model"]["nose"] == pytest.approx(figures_of(_without(located, 1)).parts["model"]["nose"])


def _without(located, number):
    keep = [i for i in range(4) if i != number]
    dataset = replace(located.dataset, faces=tuple(located.dataset.faces[i] for i in keep))
    return replace(located, dataset=dataset, points=located.points[:, keep], boxes=located.boxes[keep])


def test_a_norm_whose_points_are_not_labelled_leaves_the_face_out(located):
    labelled = np.arange(68) != 36
    points = located.dataset.faces[0].points.copy()
    points[36] = np.nan
    partly = with_face(located, 0, labelled=labelled, points=points, box=None)
    figures = figures_of(partly, ["inter_ocular", "box"])
    rows = {(r.norm, r.subset): r for r in figures.rows if r.decoder == "model"}
    assert rows["inter_ocular", "all"].faces == 3
    assert rows["inter_ocular", "all"].nme == pytest.approx(figures_of(_without(located, 0)).rows[0].nme)
    assert rows["box", "all"].faces == 4
    assert figures.norm_box == "landmarks"  # one face has no annotated box
    for i in range(4):
        located = with_face(located, i, labelled=labelled)
    with pytest.raises(DataError, match="cannot be measured on any face"):
        figures_of(located, ["inter_ocular"])


def test_a_missed_face_is_a_failure_without_nme(located):
    points, boxes = located.points.copy(), located.boxes.copy()
    points[:, 2], boxes[2] = np.nan, np.nan
    missed = replace(located, points=points, boxes=boxes)
    row, rest = figures_of(missed, ["box"]).rows[0], figures_of(_without(located, 2), ["box"]).rows[0]
    assert (row.faces, row.missed) == (4, 1)
    assert row.nme == pytest.approx(rest.nme)
    assert row.fr_010 == pytest.approx((3 * rest.fr_010 + 1) / 4)
    assert row.auc_010 == pytest.approx(3 * rest.auc_010 / 4)


def test_norms_by_name():
    assert check_norms("aflw", None) == ("box",)
    assert check_norms("wflw", ["box", "inter_pupil"]) == ("box", "inter_pupil")
    with pytest.raises(UsageError, match=r"no norm 'iod'; choose from inter_ocular"):
        check_norms("300w", ["iod"])
    with pytest.raises(UsageError, match="named twice"):
        check_norms("300w", ["box", "box"])


def test_curve_is_the_area_of_auc(located):
    errors = figures_of(located, ["box"]).errors["model"]["box"]
    values, shares = cumulative(errors)
    area = (np.diff(values) * shares[:-1]).sum() / 0.1
    assert area == pytest.approx(figures_of(located, ["box"]).rows[0].auc_010)
    values, shares = cumulative(np.array([0.5, np.nan]))
    assert (values.tolist(), shares.tolist()) == ([0, 0.1], [0, 0])


def test_worst_first():
    errors = np.array([0.1, 0.3, np.nan, 0.2, np.nan])
    missed = np.array([False, False, True, False, False])
    assert worst_faces(errors, missed) == [2, 1, 3, 0]
    assert worst_faces(errors, missed, 2) == [2, 1]
