from __future__ import annotations

import json

import numpy as np
import pytest

from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.metrics import auc, failure_rate, nme, normaliser
from keyposs_trt.schemes import load_scheme

TRUTH = np.array([[[0, 0], [10, 0]], [[0, 0], [0, 20]]], float)


def test_nme_by_hand():
    points = TRUTH + np.array([[[3, 4], [0, 0]], [[0, 1], [0, -1]]])
    np.testing.assert_allclose(nme(points, TRUTH, [10, 20]), [(5 + 0) / 2 / 10, (1 + 1) / 2 / 20])


def test_nme_leaves_hidden_points_out():
    points = TRUTH + np.array([[[3, 4], [0, 0]], [[0, 1], [0, 9]]])
    np.testing.assert_allclose(nme(points, TRUTH, [10, 20], visible=[[1, 0], [2, 0]]), [0.5, 0.05])


def test_nme_of_a_hidden_nan_counts_nothing_and_a_seen_nan_is_nan():
    points = TRUTH.copy()
    points[:, 1] = np.nan
    np.testing.assert_array_equal(nme(points, TRUTH, [1, 1], visible=[[True, False], [True, True]]), [0, np.nan])


@pytest.mark.parametrize(
    ("points", "norm", "visible", "message"),
    [
        (TRUTH[:, :1], [1, 1], None, "shape|needs points"),
        (TRUTH[0], [1], None, "needs points"),
        (TRUTH, [1], None, "needs points"),
        (TRUTH, [1, 0], None, "Face 1 has a norm"),
        (TRUTH, [np.nan, 1], None, "Face 0 has a norm"),
        (TRUTH, [1, 1], [[1, 1], [0, 0]], "Face 1 has no visible point"),
        (TRUTH, [1, 1], [[1, 1]], "needs visible"),
    ],
)
def test_nme_refuses(points, norm, visible, message):
    with pytest.raises(DataError, match=message):
        nme(points, TRUTH, norm, visible)


def test_failure_rate_by_hand():
    assert failure_rate([0.05, 0.1, 0.11, np.nan]) == 0.5
    assert failure_rate([0.05, 0.09], threshold=0.08) == 0.5


def test_auc_by_hand():
    # Two of four faces below 0.1: the curve is 1/4 from 0.02 on and 2/4 from 0.06 on.
    assert auc([0.02, 0.06, 0.2, np.nan]) == pytest.approx((0.04 * 0.25 + 0.04 * 0.5) / 0.1)
    assert auc([0.0, 0.0]) == 1
    assert auc([0.1]) == 0
    assert auc([0.04], threshold=0.08) == pytest.approx(0.5)


def test_auc_is_the_area_under_the_sampled_curve():
    errors = np.random.default_rng(0).gamma(2, 0.03, 500)
    at = (np.arange(20000) + 0.5) / 20000 * 0.1
    assert auc(errors) == pytest.approx(np.mean([(errors <= e).mean() for e in at]), abs=1e-5)


@pytest.mark.parametrize("function", [failure_rate, auc])
def test_no_faces_is_refused(function):
    with pytest.raises(DataError, match="at least one face"):
        function([])


def test_normaliser_by_hand():
    truth = np.zeros((1, 68, 2))
    truth[0, 36], truth[0, 45] = (10, 10), (40, 50)
    assert normaliser(load_scheme("300w"), truth) == [50]
    # Pupils: means of six points each, of which one is not at the origin.
    assert normaliser(load_scheme("300w"), truth, "inter_pupil") == pytest.approx([50 / 6])


def test_normaliser_by_box():
    aflw = load_scheme("aflw")
    assert normaliser(aflw, np.zeros((1, 19, 2)), boxes=[[10, 10, 19, 14]]) == [6]
    with pytest.raises(UsageError, match="needs the face boxes"):
        normaliser(aflw, np.zeros((1, 19, 2)))


def test_unknown_norm_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"inter_ocular, inter_pupil, box\.$"):
        normaliser(load_scheme("wflw"), np.zeros((1, 98, 2)), "inter_ear")


@pytest.mark.shared
def test_a_shift_of_a_real_face_is_the_shift_over_the_eye_distance(shared_data):
    face = json.loads((shared_data / "photos/wflw/test_wflw.json").read_text())["annotations"][0]
    truth = np.reshape(face["keypoints"], (1, -1, 3))[..., :2]
    eyes = np.hypot(*(truth[0, 60] - truth[0, 72]))
    np.testing.assert_allclose(nme(truth + np.array([3, 4]), truth, normaliser(load_scheme("wflw"), truth)), 5 / eyes)
