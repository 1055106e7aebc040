"""What holds for every decoder by name."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from odd_maps import gaussians, odd_maps

from keyposs_trt.decode import DECODERS, Decoder, decode, wls
from keyposs_trt.errors import UsageError

NAMES = tuple(DECODERS)
SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (2, 5), (3, 3), (3, 9), (4, 4), (5, 5), (8, 8), (11, 6), (16, 16)]


def check(decoded, lead, gives_covariance):
    assert decoded.points.shape == (*lead, 2)
    assert decoded.scores.shape == lead
    assert decoded.points.dtype == decoded.scores.dtype == np.float32
    assert np.isfinite(decoded.points).all()
    assert ((decoded.scores >= 0) & (decoded.scores <= 1)).all()
    assert (decoded.covariance is not None) == gives_covariance
    if gives_covariance:
        assert decoded.covariance.shape == (*lead, 3)
        assert np.isfinite(decoded.covariance).all()


@pytest.mark.parametrize("name", NAMES)
def test_finite_on_odd_maps(name):
    for height, width in SHAPES:
        for maps in odd_maps(max(height, width), count=6, seed=height).values():
            check(decode(maps[:, :height, :width], name), (6,), DECODERS[name].gives_covariance)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_types(name):
    maps = gaussians(np.full((6, 2), 5.0), 13)[:, :11].reshape(2, 3, 11, 13)
    for kind in (np.float16, np.float32, np.float64):
        decoded = decode(maps.astype(kind), name)
        check(decoded, (2, 3), DECODERS[name].gives_covariance)
        np.testing.assert_allclose(decoded.points, 5, atol=0.05)
        np.testing.assert_allclose(decoded.scores, 1, atol=1e-3)
    for part in (maps[0, 0], maps[:0], maps[:, :0], maps[None]):
        check(decode(part, name), part.shape[:-2], DECODERS[name].gives_covariance)
    np.testing.assert_array_equal(decode(maps.tolist(), name).points, decode(maps, name).points)


@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_not_confused(name):
    maps = gaussians(np.array([[10.0, 4.0]]), 16)[:, :9]
    np.testing.assert_allclose(decode(maps, name).points, [[10, 4]], atol=0.05)
    np.testing.assert_allclose(decode(maps.swapaxes(1, 2), name).points, [[4, 10]], atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_batching_changes_nothing(name):
    for kind, maps in odd_maps(8, count=4).items():
        together = decode(maps, name).points
        alone = np.stack([decode(m, name).points for m in maps])
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5, err_msg=kind)


@pytest.mark.parametrize("name", NAMES)
def test_the_maps_are_left_as_they_were(name):
    maps = odd_maps(8, count=4)["nan and inf"]
    before = maps.copy()
    decode(maps, name)
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize("name", NAMES)
def test_the_record_says_what_the_function_takes(name):
    record = DECODERS[name]
    assert isinstance(record, Decoder)
    assert ("sigma" in inspect.signature(record.function).parameters) == record.takes_sigma
    assert 0 < len(record.description) <= 100
    assert "\n" not in record.description
    if record.takes_sigma:
        maps = gaussians(np.array([[6.3, 6.4]]), 16) + np.random.default_rng(0).normal(0, 0.05, (1, 16, 16))
        assert (decode(maps, name, sigma=1.2).points != decode(maps, name).points).any()


def test_wls_is_the_default_and_wls_known_trusts_sigma():
    maps = gaussians(np.array([[6.3, 6.4]]), 16, 2.6) + np.random.default_rng(0).normal(0, 0.02, (1, 16, 16))
    np.testing.assert_array_equal(decode(maps).points, wls(maps).points)
    np.testing.assert_array_equal(decode(maps, "wls_known", sigma=2.5).points, wls(maps, sigma=2.5, prior=np.inf).points)
    assert "prior" in DECODERS["wls"].parameters
    assert "prior" not in DECODERS["wls_known"].parameters


def test_parameters_arrive():
    maps = gaussians(np.array([[6.3, 6.4]]), 16)
    assert (decode(maps, "soft_argmax", beta=2).points != decode(maps, "soft_argmax").points).any()
    assert DECODERS["popos"].parameters == ("anchors", "candidates", "extent", "border_quirk")
    assert DECODERS["argmax"].parameters == ()


@pytest.mark.parametrize(
    ("name", "near"), [("drak", "dark"), ("wls-known", "wls_known"), ("softargmax", "soft_argmax"), ("GN", "wls, wls_known"), (3, "wls")]
)
def test_unknown_decoders_are_refused_with_the_nearest(name, near):
    with pytest.raises(UsageError, match=rf"no decoder {name!r}; .*{near}"):
        decode(np.zeros((4, 4)), name)


@pytest.mark.parametrize(
    ("name", "parameter", "known"),
    [("gn", "anchor", "anchors, sigma"), ("wls_known", "prior", "radius"), ("argmax", "beta", "none"), ("dark", "sigm", "none")],
)
def test_unknown_parameters_are_refused(name, parameter, known):
    with pytest.raises(UsageError, match=rf"no parameter '{parameter}'; it takes .*{known}"):
        decode(np.zeros((4, 4)), name, **{parameter: 1})
