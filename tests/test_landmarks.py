"""The result type."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keyposs_trt.landmarks import Landmarks


@pytest.fixture
def face() -> Landmarks:
    covariance = np.array([[4, 0, 4], [9, 5, 1], [-1, 0, -1]], np.float32)
    return Landmarks(np.zeros((3, 2), np.float32), np.ones(3, np.float32), covariance, np.zeros(4, np.float32), 0.5, "300w")


def test_length_is_the_number_of_points(face: Landmarks) -> None:
    assert len(face) == 3


def test_sigma(face: Landmarks) -> None:
    np.testing.assert_allclose(face.sigma, [2, 5**0.5, 0])


def test_cannot_be_changed(face: Landmarks) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.score = 1.0  # pyright: ignore[reportAttributeAccessIssue]
