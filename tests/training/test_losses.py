from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from keyposs_trt.decode.torch_wls import wls  # noqa: E402
from keyposs_trt.training.losses import coordinate_loss, gaussian_targets, inside, likelihood_loss, map_loss, squared_map_loss  # noqa: E402


def test_targets_are_unbiased_gaussians():
    maps = gaussian_targets(torch.tensor([[[3.25, 5.5]]]), 8, 1.5)
    assert maps.shape == (1, 1, 8, 8)
    assert maps[0, 0, 5, 3].item() == pytest.approx(torch.exp(torch.tensor(-(0.25**2 + 0.5**2) / 4.5)).item())


def test_map_loss_is_zero_for_the_target_itself_and_grows_with_distance():
    points = torch.tensor([[[3.3, 4.6], [1.0, 6.0]]])
    logits = gaussian_targets(points, 8, 1.5).clamp_min(1e-30).log()
    assert map_loss(logits, points, 1.5).max() < 1e-5
    near, far = map_loss(logits, points + 0.5, 1.5), map_loss(logits, points - 1.0, 1.5)
    assert (near > 0.01).all()
    assert (far > near).all()


def test_squared_loss_is_0_for_the_target_and_1_for_a_blank_map():
    points = torch.tensor([[[15.3, 14.6], [12.0, 17.0], [40.0, 3.0]]])
    assert squared_map_loss(gaussian_targets(points, 32, 2.0), points, 2.0).max() == 0
    blank = squared_map_loss(torch.zeros(1, 3, 32, 32), points, 2.0)
    assert blank[0].tolist() == pytest.approx([1, 1, 0], abs=1e-3)


def test_points_outside_the_map_cost_nothing():
    points = torch.tensor([[[-0.6, 3.0], [7.6, 3.0], [7.4, 3.0]]])
    assert inside(points, 8).tolist() == [[False, False, True]]
    assert (map_loss(torch.zeros(1, 3, 8, 8), points, 1.5)[0, :2] == 0).all()
    assert coordinate_loss(torch.zeros(1, 3, 2), points, 8)[0].tolist()[:2] == [0, 0]


def test_map_loss_stays_finite_for_extreme_logits():
    logits = torch.full((1, 1, 8, 8), -1e4)
    logits[..., 0, 0] = 1e4
    loss = map_loss(logits.requires_grad_(), torch.tensor([[[6.0, 6.0]]]), 1.5)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


def test_likelihood_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    decoded, points = (5 + torch.randn(4, 6, 2, generator=generator) for _ in range(2))
    root = torch.randn(4, 6, 2, 2, generator=generator)
    full = root @ root.mT
    loss = likelihood_loss(decoded, torch.stack([full[..., 0, 0], full[..., 0, 1], full[..., 1, 1]], -1), points, 32, least=0.1)
    normal = torch.distributions.MultivariateNormal(decoded, full + 0.01 * torch.eye(2))
    torch.testing.assert_close(loss, -normal.log_prob(points) - torch.log(torch.tensor(2 * torch.pi)), rtol=1e-3, atol=1e-3)


def test_likelihood_trains_through_the_decoder():
    """Maps that are sure and wrong become less sure or less wrong."""
    points = torch.tensor([[[6.0, 7.0], [9.0, 8.0]]])
    maps = gaussian_targets(points + 0.8, 16, 2.0) + 0.02 * torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    maps.requires_grad_()
    optimiser = torch.optim.Adam([maps], 0.01)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        decoded = wls(maps)
        loss = likelihood_loss(decoded.points, decoded.covariance, points, 16).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 10


def test_likelihood_of_a_degenerate_map_has_a_finite_gradient():
    maps = torch.zeros(1, 3, 8, 8)
    maps[0, 1] = -1
    maps[0, 2, 3, 3] = 1
    maps.requires_grad_()
    decoded = wls(maps)
    likelihood_loss(decoded.points, decoded.covariance, torch.full((1, 3, 2), 3.0), 8).sum().backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()
