from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.decode import Decoded, grid_shift, to_crop
from keyposs_trt.errors import UsageError


def test_corner_grid():
    np.testing.assert_array_equal(to_crop([[0, 1], [3, 2.5]], 4, "corner"), [[0, 4], [12, 10]])


def test_half_pixel_grid_puts_the_maps_centre_on_the_crops():
    np.testing.assert_array_equal(to_crop([[0, 1], [1.5, 1.5]], 64, "half_pixel"), [[31.5, 95.5], [127.5, 127.5]])
    assert grid_shift(1, "half_pixel") == 0


def test_covariance_scales_with_the_square():
    decoded = Decoded(np.ones((3, 2), np.float32), np.ones(3, np.float32), np.ones((3, 3), np.float32)).to_crop(4, "corner")
    assert decoded.points[0, 0] == 4
    assert decoded.scores[0] == 1
    assert decoded.covariance[0, 0] == 16
    assert decoded.covariance.dtype == np.float32


def test_decoders_without_covariance_have_none_in_crop_pixels_either():
    decoded = Decoded(np.ones((3, 2), np.float32), np.ones(3, np.float32), None).to_crop(4, "half_pixel")
    assert decoded.covariance is None
    np.testing.assert_array_equal(decoded.points, np.full((3, 2), 5.5))


def test_unknown_grid_is_refused():
    with pytest.raises(UsageError, match="corner, half_pixel"):
        to_crop([0, 0], 4, "centre")
