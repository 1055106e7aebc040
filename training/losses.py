"""Targets and losses on maps and on the landmarks decoded from them.

Maps are [N, L, S, S]; points [N, L, 2] are in heatmap pixels; a loss is [N, L], one number a landmark, 0 where the true point lies off
the map.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)

from keyposs_trt.decode.gauss_newton import ANCHORS
from keyposs_trt.errors import UsageError

EPS = 1e-9
_CUT = 3.0  # sigmas at which a biased target ends
_WING = {"alpha": 2.1, "omega": 14.0, "epsilon": 1.0, "theta": 0.5}  # of the adaptive wing loss, its paper's values
_BLANK = math.pi  # squares of a whole Gaussian of peak 1, over sigma^2
_FAINT = 0.05  # below this value, the logarithm of a range goes on along its tangent
_NEAR = 0.5  # heatmap pixels below which a range becomes proportional to its square


def gaussian_targets(points: torch.Tensor, size: int, sigma: float, kind: str = "unbiased") -> torch.Tensor:
    """[N, L, size, size] Gaussians of peak 1 around points [N, L, 2] in heatmap pixels.

    ``unbiased`` ones are centred on the real-valued points; ``biased`` ones on the nearest heatmap pixel and cut off at 3 sigma, as
    mmpose made them before unbiased encoding (DARK, Zhang et al. 2020, arXiv 1910.06278).
    """
    grid = torch.arange(size, device=points.device, dtype=points.dtype)
    if kind == "biased":
        points = (points + 0.5).floor()
    g = torch.exp(-((grid - points[..., None]) ** 2) / (2 * sigma**2))
    if kind == "biased":
        g = torch.where((grid - points[..., None]).abs() <= _CUT * sigma, g, 0.0)
    return g[..., 1, :, None] * g[..., 0, None, :]


def map_loss(
    name: str,
    logits: torch.Tensor,
    maps: torch.Tensor,
    target: torch.Tensor,
    points: torch.Tensor,
    sigma: float,
    huber_delta: float = 0.6,
) -> torch.Tensor:
    """[N, L] the loss on maps of a recipe's ``map_loss``.

    Args:
        name: divergence, mse, huber, adaptive_wing or distance.
        logits: [N, L, S, S] what the head gives; of a linear head, the maps.
        maps: [N, L, S, S] heatmaps made of them.
        target: [N, L, S, S] of ``gaussian_targets``.
        points: [N, L, 2] true positions in heatmap pixels.
        sigma: of the target in heatmap pixels.
        huber_delta: knee of ``huber``.

    Raises:
        UsageError: there is no loss of this name.
    """
    match name:
        case "divergence":
            return divergence_loss(logits, target, points)
        case "mse":
            return squared_map_loss(maps, target, points, sigma)
        case "huber":
            return huber_map_loss(maps, target, points, sigma, huber_delta)
        case "adaptive_wing":
            return adaptive_wing_loss(maps, target, points, sigma)
        case "distance":
            return distance_loss(logits, points, sigma)
        case _:
            raise UsageError(f"There is no loss '{name}' on maps; choose one of divergence, mse, huber, adaptive_wing, distance.")


def distance_loss(logits: torch.Tensor, points: torch.Tensor, sigma: float, farthest: float = 4.0) -> torch.Tensor:
    """[N, L] Huber loss of predicted distances softplus(logits) to the true ones |a - p| / sigma, weighted towards near anchors.

    Distances count up to ``farthest`` (in sigmas): what is beyond is encoded as no value at all. The weight of an anchor is
    1 / (1 + d^2), so that the few near ones, which the multilateration takes, are not lost among the many far ones.

    Args:
        logits: [N, L, S, S] of a head of distances.
        points: [N, L, 2] true positions in heatmap pixels.
        sigma: unit of the distances in heatmap pixels.
        farthest: in sigmas.
    """
    grid = torch.arange(logits.shape[-1], device=points.device, dtype=points.dtype)
    x, y = ((grid - points[..., None]) / sigma).square().unbind(-2)
    true = (y[..., :, None] + x[..., None, :]).sqrt().clamp_max(farthest)
    found = F.softplus(logits.float())
    # Above the limit only a distance that is too small is an error.
    error = torch.where(true < farthest, found - true, (found - farthest).clamp_max(0))
    weight = 1 / (1 + true**2)
    loss = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=0.5)
    return _on_map((weight * loss).sum((-2, -1)) / weight.sum((-2, -1)), points, logits.shape[-1])


def divergence_loss(logits: torch.Tensor, target: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """[N, L] cross-entropy between softmax maps and targets made to sum to one, minus its least value: the divergence in nats.

    Args:
        logits: [N, L, S, S] maps before the softmax.
        target: [N, L, S, S] of ``gaussian_targets``.
        points: [N, L, 2] true positions in heatmap pixels.
    """
    flat = target.flatten(2)
    flat = flat / flat.sum(-1, keepdim=True).clamp_min(EPS)
    divergence = (torch.xlogy(flat, flat) - flat * F.log_softmax(logits.float().flatten(2), -1)).sum(-1)
    return _on_map(divergence, points, logits.shape[-1])


def squared_map_loss(maps: torch.Tensor, target: torch.Tensor, points: torch.Tensor, sigma: float) -> torch.Tensor:
    """[N, L] squared error between maps and targets, as a share of the squares of a whole target: a blank map costs 1."""
    error = (maps.float() - target).square().sum((-2, -1)) / (_BLANK * sigma**2)
    return _on_map(error, points, maps.shape[-1])


def huber_map_loss(maps: torch.Tensor, target: torch.Tensor, points: torch.Tensor, sigma: float, delta: float = 0.6) -> torch.Tensor:
    """[N, L] as ``squared_map_loss``, but linear beyond ``delta``: the loss of KeyPosS on COFW and COCO-WholeBody-Face."""
    error = 2 * F.huber_loss(maps.float(), target, reduction="none", delta=delta).sum((-2, -1)) / (_BLANK * sigma**2)
    return _on_map(error, points, maps.shape[-1])


def adaptive_wing_loss(maps: torch.Tensor, target: torch.Tensor, points: torch.Tensor, sigma: float) -> torch.Tensor:
    """[N, L] adaptive wing loss (Wang et al. 2019, arXiv 1904.07399, its formula and values), summed over a map.

    Near the error 0 it is steep on the foreground and flat on the background: the exponent is alpha minus the target. The sum is divided
    by the squares of a whole target, as in ``squared_map_loss``, but a blank map costs about 14. The paper's weights of the pixels near a
    landmark are left out.
    """
    alpha, omega, epsilon, theta = (_WING[k] for k in ("alpha", "omega", "epsilon", "theta"))
    error = (maps.float() - target).abs()
    power = alpha - target
    ratio = theta / epsilon
    slope = omega * power * ratio ** (power - 1) / (1 + ratio**power) / epsilon
    joint = theta * slope - omega * torch.log1p(ratio**power)
    # The where below would spread the unbounded slopes of e^p at the error 0 and at errors it does not take from here.
    near = omega * torch.log1p((error.clamp(1e-6, theta) / epsilon) ** power)
    loss = torch.where(error < theta, near, slope * error - joint)
    return _on_map(loss.sum((-2, -1)) / (_BLANK * sigma**2), points, maps.shape[-1])


def coordinate_loss(decoded: torch.Tensor, points: torch.Tensor, size: int, knee: float = 0.5, unit: float = 1.0) -> torch.Tensor:
    """[N, L] smooth L1 distance between decoded and true positions [N, L, 2], both in heatmap pixels; quadratic below ``knee``.

    Args:
        decoded: [N, L, 2] positions in heatmap pixels.
        points: [N, L, 2] true positions; one off the map costs nothing.
        size: side of the map in heatmap pixels.
        knee: in units.
        unit: heatmap pixels in which the loss is measured, so that maps of several sizes weigh alike.
    """
    loss = F.smooth_l1_loss(decoded / unit, points / unit, reduction="none", beta=knee).sum(-1)
    return _on_map(loss, points, size)


def anchor_loss(maps: torch.Tensor, points: torch.Tensor, sigma: float, anchors: int | None = None, knee: float = 0.5) -> torch.Tensor:
    """[N, L] smooth L1 error in heatmap pixels, averaged over K anchors, between ranges taken from a map and the true distances.

    POPoS (AAAI 2025, arXiv 2410.09583) adds a "multilateration anchor loss" to the squared error, to make the distances at the anchors of
    the multilateration more accurate. Its released code adds an entropic optimal transport distance instead (Sinkhorn, squared costs),
    between the predicted and the true maps of a landmark over the whole batch, each map one point of a space with as many dimensions as
    pixels. What follows is this project's reading of the aim, not that code:

    - The anchors are the K pixels with the largest value on the map or on its target, so that a false peak sinks and the true one rises.
    - A value h is the squared range s = -2 sigma^2 ln h, as in the decoder ``gn``. Below 0.05 the logarithm goes on along its tangent;
      above 1 the range is negative. The distance s / sqrt(|s| + 0.5^2) has a finite slope everywhere; the true one is taken so as well.

    Args:
        maps: [N, L, S, S] heatmaps (not logits), of any values.
        points: [N, L, 2] true positions in heatmap pixels; one off the map costs nothing.
        sigma: sigma of the target in heatmap pixels.
        anchors: K; by default that of ``gn`` on maps of this size: 30, or 15 and 10 at 8 and 4 pixels.
        knee: error in heatmap pixels below which the loss is quadratic.
    """
    size = maps.shape[-1]
    if anchors is None:
        anchors = next(k for side, k in ANCHORS.items() if size >= side)
    flat, target = maps.float().flatten(2), gaussian_targets(points.float(), size, sigma).flatten(2)
    chosen = torch.maximum(flat.detach(), target).topk(min(anchors, size**2), sorted=False).indices
    measured, true = (_soft_ranges(values.gather(-1, chosen), sigma) for values in (flat, target))
    return _on_map(F.smooth_l1_loss(measured, true, reduction="none", beta=knee).mean(-1), points, size)


def _soft_ranges(values: torch.Tensor, sigma: float) -> torch.Tensor:
    """Distances in heatmap pixels from heatmap values, see ``anchor_loss``."""
    logarithm = torch.where(values > _FAINT, values.clamp_min(_FAINT).log(), values / _FAINT + (math.log(_FAINT) - 1))
    square = -2 * sigma**2 * logarithm
    return square / (square.abs() + _NEAR**2).sqrt()


def likelihood_loss(
    decoded: torch.Tensor,
    covariance: torch.Tensor,
    points: torch.Tensor,
    size: int,
    least: float = 0.05,
    freedom: float = 3.0,
    unit: float = 1.0,
) -> torch.Tensor:
    """[N, L] negative log-likelihood of the true positions in nats, without its constant, under a distribution around the decoded ones.

    ln det C / 2 + (freedom + 2) / 2 ln(1 + e^T C^-1 e / freedom) of the error e and the covariance C the decoder predicts: a bivariate
    Student t with scale matrix C, whose heavy tails keep single large errors from ruling the gradient. ``freedom`` infinity is the
    Gaussian, (e^T C^-1 e + ln det C) / 2 (Kendall and Gal 2017, for two dimensions).

    Args:
        decoded: [N, L, 2] positions in heatmap pixels.
        covariance: [N, L, 3] xx, xy, yy in heatmap pixels squared.
        points: [N, L, 2] true positions; one off the map costs nothing.
        size: side of the map in heatmap pixels.
        least: standard deviation in units added along every axis, so that a map without noise does not cost minus infinity.
        freedom: degrees of freedom of the distribution.
        unit: as of ``coordinate_loss``.
    """
    e = (points - decoded) / unit
    xx, xy, yy = (covariance / unit**2).unbind(-1)
    xx, yy = xx + least**2, yy + least**2
    det = (xx * yy - xy * xy).clamp_min(least**4)
    square = (yy * e[..., 0] ** 2 - 2 * xy * e[..., 0] * e[..., 1] + xx * e[..., 1] ** 2) / det
    tail = square / 2 if math.isinf(freedom) else (freedom + 2) / 2 * torch.log1p(square / freedom)
    return _on_map(tail + det.log() / 2, points, size)


def inside(points: torch.Tensor, size: int) -> torch.Tensor:
    """[N, L] bool: the point lies on the map or within half a cell of it."""
    return ((points >= -0.5) & (points <= size - 0.5)).all(-1)


def _on_map(loss: torch.Tensor, points: torch.Tensor, size: int) -> torch.Tensor:
    return torch.where(inside(points, size), loss, 0.0)
