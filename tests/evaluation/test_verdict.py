"""Limits, and what is said of figures on either side of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from keyposs_trt.errors import UsageError
from keyposs_trt.evaluation.drift import drift_of, increase_of
from keyposs_trt.evaluation.verdict import DEFAULT_INCREASE, Gates, judge, limits

DRIFT = drift_of(np.full((2, 68), 0.5), "300w")


def test_limits():
    assert limits([], "--x") == {}
    assert limits(["0.1"], "--x") == {"fp32": 0.1, "fp16": 0.1, "int8": 0.1}
    assert limits(["0.1", "int8=0.3"], "--x") == {"fp32": 0.1, "fp16": 0.1, "int8": 0.3}
    assert Gates().increase == DEFAULT_INCREASE


@pytest.mark.parametrize("word", ["x", "fp8=1", "=1", "int8=", "-1", "nan", "inf", "int8=1=2"])
def test_a_word_that_is_no_limit(word):
    with pytest.raises(UsageError, match="of --max-drift is no limit"):
        limits([word], "--max-drift")


@pytest.mark.parametrize(
    ("points", "text"),
    [
        (0.12, "fail: NME +0.12 > 0.1"),
        (0.1004, "fail: NME +0.1004 > 0.1"),
        (0.0999, "pass"),
        (-3.0, "pass"),
    ],
)
def test_verdict(points, text):
    assert judge("int8", points / 100, DRIFT, Gates()).text == text


def test_both_limits():
    gates = Gates({"int8": 0.1}, {"int8": 0.25, "fp16": 1})
    assert judge("int8", 0.002, DRIFT, gates).text == "fail: NME +0.20 > 0.1, drift p99 0.50 px > 0.25"
    assert judge("fp16", 0.002, DRIFT, gates).met


def test_what_could_not_be_measured():
    assert judge("fp16", math.nan, None, Gates()).kind == "error"
    assert judge("fp16", math.nan, DRIFT, Gates()).kind == "error"
    assert judge("fp16", 0.0, replace(DRIFT, largest=math.nan), Gates()).kind == "fail"
    assert drift_of(np.zeros((0, 68)), "300w") is None


def test_drift_names_the_landmark():
    moved = np.full((4, 68), 0.1)
    moved[:, 30] = [1, 2, 3, 4]
    found = drift_of(moved, "300w")
    assert (found.worst, found.worst_part, found.worst_mean, found.largest, found.faces) == (30, "nose", 2.5, 4.0, 4)
    assert found.mean == pytest.approx(moved.mean())
    assert found.p99 == pytest.approx(np.quantile(moved, 0.99))


def test_increase_is_of_the_same_faces():
    a, b = np.array([0.1, 0.2, np.nan, 0.3]), np.array([0.11, 0.22, 0.4, 0.33])
    mean, error = increase_of(a, b)
    assert mean == pytest.approx(0.02)
    assert error == pytest.approx(np.std([0.01, 0.02, 0.03], ddof=1) / 3**0.5)
    assert all(math.isnan(v) for v in increase_of(a[2:3], b[2:3]))
    assert math.isnan(increase_of(a[:1], b[:1])[1])
