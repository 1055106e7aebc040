"""Self-calibrating weighted multilateration in NumPy: the oracle every other implementation must agree with.

A map value is an encoded squared range, h = A exp(-kappa |a - p|^2 / 2) with kappa = 1 / sigma^2, from the anchor (pixel)
a to the landmark p. With d = a - argmax and rho = |d|^2 / 2, its logarithm is linear in everything unknown:

    ln h_i = c - kappa rho_i + g . d_i,        g = kappa * offset,        p = argmax + offset

Weighted least squares over the window |dx|, |dy| <= radius around the argmax, cut at the border of the map, with weights
h^2 (additive noise of the map gives var(ln h) ~ 1 / h^2). Centring by the weighted mean removes c, and with it the
amplitude; a ridge pulls kappa towards 1 / sigma^2. All sums below are centred weighted means, G = <d d^T>:

    U = G^-1 <d rho>,   V = G^-1 <d ln h>                                  two right-hand sides of one 2x2 system
    kappa = (prior <rho rho> / sigma^2 - <rho ln h> + <rho d> . V) / ((1 + prior) <rho rho> - <rho d> . U)
    offset = U + V / kappa                                                 the range circles intersected

kappa is kept within a factor 4 of 1 / sigma^2, the offset within the window. The amplitude is the one that fits at that
offset, ln A = < ln h + kappa |d - offset|^2 / 2 >, and the residuals around it give the covariance to first order, with the
uncertainty of kappa in it (n usable anchors, 4 unknowns):

    Cov = <residual^2> / (kappa^2 (n - 4)) * (G^-1 + (V / kappa) (V / kappa)^T / denominator of kappa)

The range model is that of KeyPosS (arXiv 2305.16437); the weights, the free amplitude and the free range scale are this
project's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.decode.decoded import Decoded
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

RADIUS = 3
PRIOR = 0.02
FLOOR = 0.05

# Limits shared by every implementation of this solver; a change of one is a change of the solver.
HUGE = 1e20  # map values of this size or more, NaN and the infinities are no measurements
TINY = 1e-9  # below floor * TINY a map is empty
KAPPA_RANGE = 4.0  # kappa stays within this factor of 1 / sigma^2
MIN_ANCHORS = 4  # as many as unknowns: c, kappa, gx, gy
MIN_DETERMINANT = 1e-2  # det G over Gxx * Gyy: anchors on a line give 0
PRIOR_RANGE = (1e-3, 1e6)  # stand for a free and for a known sigma; less than the first can be singular


def wls(heatmaps: ArrayLike, *, sigma: float = 2.0, radius: int = RADIUS, prior: float = PRIOR, floor: float = FLOOR) -> Decoded:
    """Landmarks of heatmaps by self-calibrating weighted multilateration.

    NaN, the infinities and values of 1e20 or more in size are unusable anchors and never the argmax; of equal maxima the
    first in row-major order counts. Where the window holds fewer than 4 usable anchors, or all on a line, the landmark is
    the argmax itself, with the peak clipped to [0, 1] as score and a variance of radius^2. The result is always finite.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64.
        sigma: sigma of the training target in heatmap pixels.
        radius: half side of the window in heatmap pixels.
        prior: strength of the pull towards ``sigma``, relative to what the anchors say; 0 (computed as 0.001, so that no
            window is singular) is fully self-calibrating, infinity a known sigma.
        floor: anchors at or below this fraction of the peak are dropped.

    Returns:
        Points in heatmap pixels, scores, covariance in heatmap pixels squared.

    Raises:
        UsageError: the maps have no pixels, or a parameter makes no sense.
    """
    parameters = check_parameters(sigma=sigma, radius=radius, prior=prior, floor=floor)
    maps = np.asarray(heatmaps)
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise UsageError(f"Heatmaps must be [..., H, W] with at least one pixel, not of shape {list(maps.shape)}.")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is unusable
        maps = maps.astype(np.float32)
    lead, size = maps.shape[:-2], maps.shape[-2:]
    d = window_offsets(radius)
    argmax, window = _gather(maps.reshape(-1, *size), d)
    offset, score, covariance = _solve(window, d.astype(np.float64), **parameters)
    return Decoded(
        (argmax + offset).astype(np.float32).reshape(*lead, 2),
        score.astype(np.float32).reshape(lead),
        covariance.astype(np.float32).reshape(*lead, 3),
    )


def check_parameters(*, sigma: float, radius: float = RADIUS, prior: float = PRIOR, floor: float = FLOOR) -> dict[str, Any]:
    """The parameters of the solver with their types and bounds settled.

    Raises:
        UsageError: one of them makes no sense.
    """
    for ok, what in (
        (0 < sigma < 1e6, f"sigma must be positive, not {sigma}"),
        (radius in range(1, 65), f"radius must be a whole number in 1..64, not {radius}"),
        (prior >= 0, f"prior must be 0 or more, not {prior}"),
        (1e-3 <= floor < 1, f"floor must be in [0.001, 1), not {floor}"),
    ):
        if not ok:
            raise UsageError(f"Multilateration: {what}.")
    least, most = PRIOR_RANGE
    return {"sigma": float(sigma), "radius": int(radius), "prior": min(max(float(prior), least), most), "floor": float(floor)}


def window_offsets(radius: int) -> NDArray[np.int64]:
    """[K, 2] dx, dy of the anchors of a window in row-major order; the argmax is number K // 2."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.stack([dx.ravel(), dy.ravel()], -1).astype(np.int64)


def _gather(maps: NDArray[np.float32], d: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """[M, 2] column and row of the argmax and [M, K] float32 window of maps [M, H, W]; -HUGE where there is no measurement."""
    count, height, width = maps.shape
    flat = np.where(np.abs(maps) < HUGE, maps, np.float32(-HUGE)).reshape(count, height * width)
    index = flat.argmax(-1)
    argmax = np.stack([index % width, index // width], -1)
    anchors = argmax[:, None] + d
    inside = ((anchors >= 0) & (anchors < (width, height))).all(-1)
    window = np.take_along_axis(flat, np.where(inside, anchors[..., 1] * width + anchors[..., 0], index[:, None]), -1)
    return argmax, np.where(inside, window, np.float32(-HUGE))


def _solve(
    window: NDArray[np.float32], d: NDArray[np.float64], *, sigma: float, radius: int, prior: float, floor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Offset [M, 2] from the argmax, score [M] and covariance [M, 3] of windows [M, K]; the symbols are the module's."""
    peak = window[:, len(d) // 2]
    base = np.maximum(peak, np.float32(TINY))
    relative = window / base[:, None]
    usable = relative > np.float32(floor)  # in float32, as everywhere: the same anchors on either side of the floor
    n = usable.sum(-1)
    relative = np.where(usable, relative, 0).astype(np.float64)
    y = np.log(np.maximum(relative, floor))
    p = relative**2 / np.maximum((relative**2).sum(-1, keepdims=True), 1e-30)

    dx, dy = d.T
    rho = (dx**2 + dy**2) / 2
    features = np.stack([dx, dy, rho], -1)
    m = p @ features
    products = (features[:, :, None] * features[:, None]).reshape(len(d), 9)
    S = (p @ products).reshape(-1, 3, 3) - m[:, :, None] * m[:, None]
    t = (p * y) @ features - m * (p * y).sum(-1, keepdims=True)

    xx, yy, xy = S[:, 0, 0], S[:, 1, 1], S[:, 0, 1]
    determinant = xx * yy - xy**2
    solved = (n >= MIN_ANCHORS) & (determinant > MIN_DETERMINANT * xx * yy)
    G = np.where(solved[:, None, None], S[:, :2, :2], np.eye(2))
    inverse = np.linalg.inv(G)
    b, rr = S[:, :2, 2], S[:, 2, 2]
    U = np.einsum("mij,mj->mi", inverse, b)
    V = np.einsum("mij,mj->mi", inverse, t[:, :2])
    denominator = np.maximum((1 + prior) * rr - (b * U).sum(-1), 1e-12)
    kappa = (prior * rr / sigma**2 - t[:, 2] + (b * V).sum(-1)) / denominator
    kappa = np.clip(kappa, 1 / (KAPPA_RANGE * sigma**2), KAPPA_RANGE / sigma**2)
    shift = V / kappa[:, None]
    offset = np.clip(U + shift, -radius, radius)

    square = (dx - offset[:, :1]) ** 2 + (dy - offset[:, 1:]) ** 2
    amplitude = y + kappa[:, None] / 2 * square
    mean = (p * amplitude).sum(-1)
    variance = (p * (amplitude - mean[:, None]) ** 2).sum(-1) / (kappa**2 * np.maximum(n - MIN_ANCHORS, 1))
    score = np.exp(np.minimum(mean + np.log(base), 0))
    outer = inverse + shift[:, :, None] * shift[:, None] / denominator[:, None, None]
    covariance = variance[:, None] * outer.reshape(-1, 4)[:, [0, 1, 3]]

    return (
        np.where(solved[:, None], offset, 0),
        np.where(solved, score, np.clip(peak, 0, 1)),
        np.where(solved[:, None], covariance, np.array([radius**2, 0, radius**2], np.float64)),
    )
