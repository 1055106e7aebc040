"""Targets and losses on maps and on the landmarks decoded from them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)

EPS = 1e-9


def gaussian_targets(points: torch.Tensor, size: int, sigma: float) -> torch.Tensor:
    """[N, L, size, size] unbiased Gaussians, peak 1, centred on real-valued points [N, L, 2] in heatmap pixels."""
    grid = torch.arange(size, device=points.device, dtype=points.dtype)
    g = torch.exp(-((grid - points[..., None]) ** 2) / (2 * sigma**2))
    return g[..., 1, :, None] * g[..., 0, None, :]


def map_loss(logits: torch.Tensor, points: torch.Tensor, sigma: float) -> torch.Tensor:
    """[N, L] cross-entropy between softmax maps and Gaussian targets, minus its least value: the divergence in nats.

    Args:
        logits: [N, L, S, S] maps before the softmax.
        points: [N, L, 2] true positions in heatmap pixels; a point outside the map costs nothing.
        sigma: sigma of the targets in heatmap pixels.
    """
    target = gaussian_targets(points, logits.shape[-1], sigma).flatten(2)
    mass = target.sum(-1, keepdim=True)
    target = target / mass.clamp_min(EPS)
    divergence = (target * (target.clamp_min(EPS).log() - F.log_softmax(logits.float().flatten(2), -1))).sum(-1)
    return torch.where(inside(points, logits.shape[-1]), divergence, 0.0)


def squared_map_loss(maps: torch.Tensor, points: torch.Tensor, sigma: float) -> torch.Tensor:
    """[N, L] squared error between linear maps and Gaussian targets, as a share of the squares of a whole target: a blank map costs 1.

    Args:
        maps: [N, L, S, S] maps of a linear head.
        points: [N, L, 2] true positions in heatmap pixels; a point outside the map costs nothing.
        sigma: sigma of the targets in heatmap pixels.
    """
    error = (maps.float() - gaussian_targets(points, maps.shape[-1], sigma)).square().sum((-2, -1)) / (math.pi * sigma**2)
    return torch.where(inside(points, maps.shape[-1]), error, 0.0)


def coordinate_loss(decoded: torch.Tensor, points: torch.Tensor, size: int, knee: float = 0.5) -> torch.Tensor:
    """[N, L] smooth L1 distance in heatmap pixels between decoded and true positions [N, L, 2]; quadratic below ``knee``."""
    loss = F.smooth_l1_loss(decoded, points, reduction="none", beta=knee).sum(-1)
    return torch.where(inside(points, size), loss, 0.0)


def likelihood_loss(decoded: torch.Tensor, covariance: torch.Tensor, points: torch.Tensor, size: int, least: float = 0.05) -> torch.Tensor:
    """[N, L] Gaussian negative log-likelihood of the true positions, in nats, without its constant ln 2 pi.

    (e^T C^-1 e + ln det C) / 2 of the error e and the covariance C the decoder predicts (Kendall and Gal 2017, for two dimensions).

    Args:
        decoded: [N, L, 2] positions in heatmap pixels.
        covariance: [N, L, 3] xx, xy, yy in heatmap pixels squared.
        points: [N, L, 2] true positions; one off the map costs nothing.
        size: side of the map in heatmap pixels.
        least: standard deviation in heatmap pixels added along every axis, so that a map without noise does not cost minus infinity.
    """
    e = points - decoded
    xx, xy, yy = covariance.unbind(-1)
    xx, yy = xx + least**2, yy + least**2
    det = (xx * yy - xy * xy).clamp_min(least**4)
    square = (yy * e[..., 0] ** 2 - 2 * xy * e[..., 0] * e[..., 1] + xx * e[..., 1] ** 2) / det
    return torch.where(inside(points, size), (square + det.log()) / 2, 0.0)


def inside(points: torch.Tensor, size: int) -> torch.Tensor:
    """[N, L] bool: the point lies on the map or within half a cell of it."""
    return ((points >= -0.5) & (points <= size - 0.5)).all(-1)
