from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from keyposs_trt.decode import multilateration  # noqa: E402
from keyposs_trt.decode.torch_wls import wls  # noqa: E402


def gaussians(points, size, sigma, amplitude=1.0):
    y, x = np.mgrid[:size, :size]
    d2 = (x - points[..., 0, None, None]) ** 2 + (y - points[..., 1, None, None]) ** 2
    return (amplitude * np.exp(-d2 / (2 * sigma**2))).astype(np.float32)


@pytest.mark.parametrize("size", [64, 32, 8, 4])
def test_agrees_with_the_oracle(size):
    rng = np.random.default_rng(size)
    maps = gaussians(rng.uniform(-0.4, size - 0.6, (8, 68, 2)), size, 2.0, rng.uniform(0.3, 1, (8, 68, 1, 1)))
    maps += rng.normal(0, 0.02, maps.shape).astype(np.float32)
    found = wls(torch.from_numpy(maps), 2.0).numpy()
    np.testing.assert_allclose(found, multilateration.wls(maps, sigma=2.0).points, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, -1.0, 0.5])
def test_flat_maps_agree_with_the_oracle(value):
    maps = np.full((1, 2, 6, 6), value, np.float32)
    np.testing.assert_allclose(wls(torch.from_numpy(maps), 2.0).numpy(), multilateration.wls(maps, sigma=2.0).points, atol=1e-3)


def test_gradients_match_finite_differences():
    """Along a ramp in the logarithm of the maps; the weights, constants of the gradient, matter to second order there."""
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(gaussians(rng.uniform(2, 13, (1, 3, 2)), 16, 2.0) * 0.8).requires_grad_()
    weight = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)
    (wls(maps, 2.0) * weight).sum().backward()
    along = (maps.grad * maps * ramp).sum().item()
    with torch.no_grad():
        moved = [(wls(maps * torch.exp(e * ramp), 2.0) * weight).sum().item() for e in (1e-2, -1e-2)]
    assert along == pytest.approx((moved[0] - moved[1]) / 2e-2, rel=0.02)


def test_gradients_are_finite_on_degenerate_maps():
    maps = torch.zeros(1, 4, 8, 8)
    maps[0, 1] = -1
    maps[0, 2, 0, 0] = 1
    maps[0, 3, 7] = 0.5
    maps.requires_grad_()
    wls(maps, 2.0).sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_half_precision_maps_are_decoded_in_float32():
    maps = torch.from_numpy(gaussians(np.array([[[5.3, 7.7]]]), 16, 2.0)).half()
    found = wls(maps, 2.0)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), [[[5.3, 7.7]]], atol=2e-2)
