from __future__ import annotations

import numpy as np
import pytest
from odd_maps import odd_maps

torch = pytest.importorskip("torch")

from keyposs_trt.decode import multilateration  # noqa: E402
from keyposs_trt.decode.torch_wls import Multilateration, wls  # noqa: E402
from keyposs_trt.errors import UsageError  # noqa: E402

DEGENERATE = (
    "zero",
    "negative",
    "negative flat",
    "flat",
    "all nan",
    "all inf",
    "nan and inf",
    "sparse",
    "one pixel",
    "faint",
    "loud",
    "lines",
)


def gaussians(points, size, sigma, amplitude=1.0):
    y, x = np.mgrid[:size, :size]
    d2 = (x - points[..., 0, None, None]) ** 2 + (y - points[..., 1, None, None]) ** 2
    return (amplitude * np.exp(-d2 / (2 * sigma**2))).astype(np.float32)


def noisy(size, count=40, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.4, size - 0.6, (4, count, 2))
    maps = gaussians(points, size, rng.uniform(1.6, 2.6, (4, count, 1, 1)), rng.uniform(0.3, 1, (4, count, 1, 1)))
    return maps + rng.normal(0, 0.02, maps.shape).astype(np.float32)


@pytest.mark.parametrize("size", [64, 32, 16, 8, 4])
@pytest.mark.parametrize("parameters", [{}, {"sigma": 1.5, "radius": 2, "prior": 0.1}, {"prior": float("inf")}])
def test_agrees_with_the_oracle(size, parameters):
    maps = noisy(size, seed=size)
    found, want = wls(torch.from_numpy(maps), **parameters), multilateration.wls(maps, **parameters)
    np.testing.assert_allclose(found.points.numpy(), want.points, atol=1e-3)
    np.testing.assert_allclose(found.scores.numpy(), want.scores, atol=1e-4)
    np.testing.assert_allclose(found.covariance.numpy(), want.covariance, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_maps_agree_with_the_oracle(kind):
    maps = odd_maps(9)[kind]
    found, want = wls(torch.from_numpy(maps)), multilateration.wls(maps)
    close = np.abs(found.points.numpy() - want.points).max(-1) < 1e-3
    assert close.mean() >= 0.95  # without a clear peak the fit magnifies rounding
    np.testing.assert_allclose(found.scores.numpy()[close], want.scores[close], atol=3e-3)


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (0, 2, 6, 6), (2, 3, 4, 6, 5), (2, 1, 7), (2, 1, 1)])
def test_any_leading_shape_and_any_sides(shape):
    maps = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    found, want = wls(torch.from_numpy(maps)), multilateration.wls(maps)
    assert (found.points.shape, found.scores.shape, found.covariance.shape) == ((*shape[:-2], 2), shape[:-2], (*shape[:-2], 3))
    np.testing.assert_allclose(found.points.numpy(), want.points, atol=0.01)


def weighed(decoded, weights):
    return sum((w * v).sum() for w, v in zip(weights, decoded, strict=True))


@pytest.mark.parametrize("where", [(7.3, 8.6), (0.2, 7.4), (-0.4, 15.2), (15.3, 15.4)])
def test_gradients_match_finite_differences(where):
    """In double precision, at every pixel; where the argmax is unique and no bound is active."""
    rng = np.random.default_rng(1)
    maps = 0.8 * gaussians(np.array([[where]]), 16, 2.2).astype(float) + rng.normal(0, 0.01, (1, 1, 16, 16))
    module = Multilateration(16, 16, 2.0).double()
    weights = [torch.from_numpy(rng.normal(size=(1, 1, *tail))) for tail in ((2,), (), (3,))]
    x = torch.from_numpy(maps).requires_grad_()
    weighed(module._decode(x), weights).backward()
    assert x.grad is not None
    with torch.no_grad():
        for _ in range(60):
            i, j = rng.integers(0, 16, 2)
            moved = []
            for e in (1e-6, -1e-6):
                y = x.detach().clone()
                y[0, 0, i, j] += e
                moved.append(weighed(module._decode(y), weights).item())
            assert x.grad[0, 0, i, j].item() == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_the_whole_window_has_a_gradient():
    x = torch.from_numpy(noisy(16)).requires_grad_()
    wls(x).points.sum().backward()
    assert x.grad is not None
    assert ((x.grad != 0).sum((-2, -1)) >= 25).all()


@pytest.mark.parametrize("kind", ["random", "uniform", "blobs", "border", "sharp", "ties", *DEGENERATE])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_gradients_are_finite_on_every_map(kind, size):
    x = torch.from_numpy(odd_maps(size)[kind]).requires_grad_()
    decoded = wls(x)
    sum(v.sum() for v in decoded).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_float32_inside_whatever_comes():
    maps = torch.from_numpy(gaussians(np.array([[[5.3, 7.7]]]), 16, 2.0))
    for kind in (torch.float16, torch.bfloat16):
        found = wls(maps.to(kind))
        assert {v.dtype for v in found} == {torch.float32}
        np.testing.assert_allclose(found.points.numpy(), [[[5.3, 7.7]]], atol=2e-2)
    with torch.autocast("cpu", torch.bfloat16):
        again = wls(maps)
    assert torch.equal(again.points, wls(maps).points)


def test_descent_through_the_decoder_moves_a_landmark():
    """A map pushed by the coordinate loss alone ends where it is told."""
    x = torch.from_numpy(gaussians(np.array([[[6.0, 6.0]]]), 16, 2.0) * 0.7).requires_grad_()
    optimiser = torch.optim.Adam([x], 0.01)
    for _ in range(150):
        optimiser.zero_grad()
        loss = (wls(x).points - torch.tensor([6.8, 5.4])).square().sum()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1e-4


def test_exports_without_breaks():
    maps = torch.from_numpy(noisy(16))
    program = torch.export.export(Multilateration(16, 16, 2.0), (maps,), dynamic_shapes=({0: torch.export.Dim("N")},))
    for value, want in zip(program.module()(maps[:2]), wls(maps[:2]), strict=True):
        torch.testing.assert_close(value, want)


@pytest.mark.slow
def test_compiles_in_one_graph():
    pytest.importorskip("torch._dynamo")
    maps = torch.from_numpy(noisy(8))
    compiled = torch.compile(Multilateration(8, 8, 2.0), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(maps).points, wls(maps).points)


@pytest.mark.parametrize("sigma", [0.7, 0.9, 1.2])
def test_narrow_maps_and_wide_windows_stay_finite(sigma):
    """The shape across such a map hardly shows, and the determinant of its system is lost in float32."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (2000, 2)) * [2, 32] + [1, 0]
    maps = gaussians(points, 32, rng.uniform(0.6, 1.6, (2000, 1, 1)) * sigma)[:, :, :2] + rng.normal(0, 0.1, (2000, 32, 2))
    x = torch.from_numpy(maps.astype(np.float32)).requires_grad_()
    decoded = wls(x, sigma=sigma, radius=16, prior=0)
    decoded.points.sum().backward()
    assert x.grad is not None
    for values in (*decoded, x.grad):
        assert torch.isfinite(values).all()


def test_what_stands_in_for_unusable_anchors_of_a_narrow_target():
    maps = gaussians(np.array([[[5.2, 5.7]]]), 12, 0.8)
    maps[..., 4, 4:6] = np.nan
    found, want = wls(torch.from_numpy(maps), sigma=0.8), multilateration.wls(maps, sigma=0.8)
    np.testing.assert_allclose(found.points.numpy(), want.points, atol=1e-4)
    np.testing.assert_allclose(want.points, [[[5.2, 5.7]]], atol=0.02)


def test_senseless_parameters_and_maps():
    with pytest.raises(UsageError, match="sigma"):
        wls(torch.zeros(1, 1, 4, 4), sigma=0)
    for shape in ((5,), (2, 0, 5)):
        with pytest.raises(UsageError, match="at least one pixel"):
            wls(torch.zeros(shape))
    with pytest.raises(UsageError, match="16x12"):
        Multilateration(16, 12, 2.0)(torch.zeros(1, 1, 12, 16))


def test_a_whole_radius_of_any_type():
    maps = torch.from_numpy(noisy(8))
    torch.testing.assert_close(wls(maps, radius=3.0).points, wls(maps, radius=3).points)  # pyright: ignore[reportArgumentType]
