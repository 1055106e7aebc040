"""The solver of ``keyposs_trt.decode.multilateration`` in PyTorch, differentiable from the maps to points, scores and covariance.

The gradient is the true one everywhere but at the argmax and at the bounds, which are constant in pieces. It is finite for every map.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from keyposs_trt.decode.fit import REACH, Sums, solve
from keyposs_trt.decode.multilateration import (
    FLOOR,
    HUGE,
    LOWEST,
    MAX_LOG,
    OUTLIER,
    PRIOR,
    RADIUS,
    TINY,
    anchor_steps,
    check_parameters,
    features,
    first_anchors,
    first_fit,
)
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from keyposs_trt.decode.fit import Solution


class TorchDecoded(NamedTuple):
    """Landmarks of maps [..., L, H, W], float32, in heatmap pixels: see ``Decoded``.

    Attributes:
        points: [..., L, 2]. scores: [..., L]. covariance: [..., L, 3] xx, xy, yy.
    """

    points: torch.Tensor
    scores: torch.Tensor
    covariance: torch.Tensor


class Multilateration(nn.Module):
    """``wls`` for maps of one size, with its tables as buffers: for ``torch.compile``, ``torch.export`` and training loops.

    It computes in float32 whatever the maps are, also under autocast.

    Args:
        height, width: of the maps in heatmap pixels.
        sigma, radius, prior: as in ``multilateration.wls``.
    """

    def __init__(self, height: int, width: int, sigma: float, radius: int = RADIUS, prior: float = PRIOR) -> None:
        super().__init__()
        p = check_parameters(sigma=sigma, radius=radius, prior=prior)
        self.height, self.width, self.sigma, self.prior = height, width, p["sigma"], p["prior"]
        radius = p["radius"]
        self.first = first_anchors(radius)
        f = torch.tensor(features(radius, p["sigma"]))
        i, j = torch.triu_indices(6, 6)
        steps, inside, of_row, of_column = anchor_steps(height, width, radius)
        tables = {
            "f": f.float(),
            "ff": (f[:, i] * f[:, j]).float(),
            "fit": torch.tensor(first_fit(height, width, p["sigma"], radius, p["prior"])).float(),
            "steps": torch.tensor(steps),
            "inside": torch.tensor(inside),
            "of_row": torch.tensor(of_row),
            "of_column": torch.tensor(of_column),
        }
        self.f: torch.Tensor
        self.ff: torch.Tensor
        self.fit: torch.Tensor
        self.steps: torch.Tensor
        self.inside: torch.Tensor
        self.of_row: torch.Tensor
        self.of_column: torch.Tensor
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, heatmaps: torch.Tensor) -> TorchDecoded:
        """Landmarks of maps [..., L, H, W] of any float type.

        Raises:
            UsageError: the maps are not of the size the module was made for.
        """
        if tuple(heatmaps.shape[-2:]) != (self.height, self.width):
            size = f"{self.height}x{self.width}"
            raise UsageError(f"This Multilateration is for maps of {size} pixels, not {list(heatmaps.shape)}; make one of their size.")
        with torch.autocast(heatmaps.device.type, enabled=False):
            return self._decode(heatmaps.float())

    def _decode(self, heatmaps: torch.Tensor) -> TorchDecoded:
        maps = heatmaps.flatten(-2)
        maps = torch.where(maps.abs() < HUGE, maps, -HUGE)
        index = maps.detach().argmax(-1, keepdim=True)
        peak = maps.gather(-1, index)
        row, column = index // self.width, index % self.width
        way = (self.of_row[row] + self.of_column[column]).squeeze(-1)
        anchors = maps.gather(-1, (index + self.steps[way]).flatten(maps.ndim - 1))
        usable = self.inside[way] & (anchors > -HUGE)
        positive = peak > TINY
        base = torch.where(positive, peak, 1.0)
        h = torch.where(usable, anchors, 0.0) / base

        f3 = self.f[: self.first, 3]
        y = torch.where(usable[..., : self.first], h[..., : self.first].clamp_min(FLOOR).log() - f3, 0.0)
        first = (y.unsqueeze(-2) @ self.fit[way]).squeeze(-2)
        theta = torch.stack([v + 1 if i == 3 else v for i, v in enumerate(first.unbind(-1))], -1)

        m = (theta @ self.f.T).clamp_max(MAX_LOG).exp()
        residual = h.clamp_min(LOWEST) - m
        weight = ((OUTLIER[1] - residual) / (OUTLIER[1] - OUTLIER[0])).clamp(0, 1) * usable
        weighted_m, weighted_residual = weight * m, weight * residual
        sums = Sums(
            ((weighted_m * m) @ self.ff).unbind(-1),
            ((weighted_residual * m) @ self.f).unbind(-1),
            (weighted_residual * residual).sum(-1),
            weight.sum(-1),
        )
        found = solve(sums, theta.unbind(-1), torch, sigma=self.sigma, prior=self.prior)
        return self._result(found, peak.squeeze(-1), base.squeeze(-1), torch.cat([column, row], -1))

    @staticmethod
    def _result(found: Solution, peak: torch.Tensor, base: torch.Tensor, argmax: torch.Tensor) -> TorchDecoded:
        solved = found.solved & (peak > TINY)
        offset = torch.stack([found.x, found.y], -1)
        score = (found.log_amplitude + base.log()).clamp_max(0).exp()
        covariance = torch.stack([found.xx, found.xy, found.yy], -1)
        unknown = covariance.new_tensor([REACH**2, 0, REACH**2])
        return TorchDecoded(
            argmax + torch.where(solved[..., None], offset, 0.0),
            torch.where(solved, score, peak.clamp(0, 1)),
            torch.where(solved[..., None], covariance, unknown),
        )


@lru_cache(32)
def _module(height: int, width: int, sigma: float, radius: int, prior: float, device: torch.device) -> Multilateration:
    return Multilateration(height, width, sigma, radius, prior).to(device)


def wls(heatmaps: torch.Tensor, *, sigma: float = 2.0, radius: int = RADIUS, prior: float = PRIOR) -> TorchDecoded:
    """Landmarks of maps, differentiable with respect to the maps.

    Args:
        heatmaps: [..., L, H, W] of any float type; float32 is used inside.
        sigma, radius, prior: as in ``multilateration.wls``.

    Returns:
        Points [..., L, 2] and covariance [..., L, 3] in heatmap pixels, scores [..., L]; what ``multilateration.wls`` gives.

    Raises:
        UsageError: the maps have no pixels, or a parameter makes no sense.
    """
    if heatmaps.ndim < 2 or 0 in heatmaps.shape[-2:]:
        raise UsageError(f"Heatmaps must be [..., H, W] with at least one pixel, not of shape {list(heatmaps.shape)}.")
    height, width = heatmaps.shape[-2:]
    return _module(height, width, float(sigma), radius, float(prior), heatmaps.device)(heatmaps)
