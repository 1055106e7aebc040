from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from keyposs_trt.training.losses import coordinate_loss, gaussian_targets, inside, map_loss  # noqa: E402


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
