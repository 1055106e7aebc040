"""Self-calibrating multilateration in PyTorch: the solver of ``multilateration``, differentiable.

Gradients flow through the logarithms of the map in the window around its peak; the window's place and the weights are
taken as constants. The symbols are those of ``multilateration``.
"""

from __future__ import annotations

import torch

from keyposs_trt.decode.multilateration import (
    FLOOR,
    KAPPA_RANGE,
    MIN_ANCHORS,
    MIN_DETERMINANT,
    PRIOR,
    RADIUS,
    TINY,
    check_parameters,
    window_offsets,
)


def wls(heatmaps: torch.Tensor, sigma: float, radius: int = RADIUS, prior: float = PRIOR, floor: float = FLOOR) -> torch.Tensor:
    """Landmarks of finite heatmaps by self-calibrating weighted multilateration.

    Args:
        heatmaps: [N, L, H, W] finite maps; float32 is used inside, whatever their type.
        sigma, radius, prior, floor: as in ``multilateration.wls``.

    Returns:
        [N, L, 2] float32 x, y in heatmap pixels. A degenerate map gives its argmax, with no gradient.
    """
    prior = check_parameters(sigma=sigma, radius=radius, prior=prior, floor=floor)["prior"]
    _, _, height, width = heatmaps.shape
    maps = heatmaps.float().flatten(2)
    d = torch.as_tensor(window_offsets(radius), device=maps.device)
    index = maps.argmax(-1)
    argmax = torch.stack([index % width, index // width], -1)
    anchors = argmax[:, :, None] + d
    x, y = anchors.unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    window = maps.gather(-1, torch.where(inside, y * width + x, index[..., None]))
    peak = window[..., len(d) // 2, None]
    base = peak.clamp_min(TINY).detach()
    usable = inside & (window / base > floor)
    log_map = (torch.where(usable, window, base) / base).log()
    p = torch.where(usable, window / base, 0.0).detach() ** 2
    p = p / p.sum(-1, keepdim=True).clamp_min(1e-30)

    dx, dy = d.float().unbind(-1)
    features = torch.stack([dx, dy, (dx**2 + dy**2) / 2], -1)
    centred = features - (p @ features)[..., None, :]
    weighted = centred * p[..., None]
    s = weighted.transpose(-1, -2) @ centred
    t = (weighted * log_map[..., None]).sum(-2)

    xx, yy, xy = s[..., 0, 0], s[..., 1, 1], s[..., 0, 1]
    determinant = xx * yy - xy**2
    solved = (usable.sum(-1) >= MIN_ANCHORS) & (determinant > MIN_DETERMINANT * xx * yy)
    safe = torch.where(solved, determinant, 1.0)
    inverse = torch.stack([yy, -xy, -xy, xx], -1).unflatten(-1, (2, 2)) / safe[..., None, None]
    b, rr = s[..., :2, 2], s[..., 2, 2]
    u = (inverse @ b[..., None])[..., 0]
    v = (inverse @ t[..., :2, None])[..., 0]
    denominator = ((1 + prior) * rr - (b * u).sum(-1)).clamp_min(1e-12)
    kappa = (prior * rr / sigma**2 - t[..., 2] + (b * v).sum(-1)) / denominator
    kappa = kappa.clamp(1 / (KAPPA_RANGE * sigma**2), KAPPA_RANGE / sigma**2)
    offset = (u + v / kappa[..., None]).clamp(-radius, radius)
    return argmax + torch.where(solved[..., None], offset, 0.0)
