"""Self-calibrating weighted multilateration in NumPy: the oracle every other implementation must agree with.

A map value is an encoded squared range, h = A exp(-(a - p)^T K (a - p) / 2), from the anchor (pixel) a to the landmark p. The
published range model (KeyPosS, arXiv 2305.16437) has A = 1 and K = 1 / sigma^2, the values of the training target. Networks emit
lower, wider and lopsided maps, so here the amplitude A and the shape K are unknown too. With d = a - argmax, offset = p - argmax
and g = K offset, the logarithm is linear in everything unknown:

    ln h = c + g . d - d^T K d / 2 = theta . f          K = [[kappa + alpha, beta], [beta, kappa - alpha]] / sigma^2
    theta = (c, gx, gy, kappa, alpha, beta)             f = (1, x, y, -(x^2 + y^2) / 2s, -(x^2 - y^2) / 2s, -xy / s),  s = sigma^2

A target of training has kappa = 1, alpha = beta = 0. Two steps give theta, both on anchors relative to the peak and cut at the border:

1. A first fit of ln max(h, FLOOR) over 5x5 anchors with the weights of the target itself, exp(-(x^2 + y^2) / s), which also stands in for
   anchors that cannot be used. It is linear in the map's logarithm, with coefficients that depend on the border alone.
2. One Gauss-Newton step of sum (h - m)^2, m = exp(theta . f), over the disc of `radius` around them. Additive noise of a map makes this the
   most likely theta, uses low and negative anchors without their logarithm, and weighs an anchor by m^2. Anchors more than about
   0.2 above m belong to another peak and are left out (their weight falls to 0 between OUTLIER's two values).

The shape is held by a ridge towards that of training: `prior` on kappa and ROUND times as much on alpha and beta; and, by the noise
s^2 of the residuals of step 2, with s^2 / tau^2 more, tau^2 = max(shape^2 - SHRINK variances of it, MIN_SHAPE), for alpha and beta each
half of that of their sum: a shape that could be noise is not believed (empirical Bayes, as in James and Stein 1961), one that could not
is kept. This is what makes one setting serve 64 pixels, where the shape is seen, and 4, where it must be known.

The covariance is that of the same step, s^2 (S + ridge)^-1 carried over to p = argmax + K^-1 g. The algebra is in
``keyposs_trt.decode.fit``. The free amplitude and shape, the weights and the two steps are this project's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.decode.decoded import Decoded
from keyposs_trt.decode.fit import REACH, ROUND, Sums, solve
from keyposs_trt.decode.peaks import HUGE, find_peaks
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.decode.peaks import Peaks

RADIUS = 5
PRIOR = 0.015

# Limits shared by every implementation of this solver; a change of one is a change of the solver.
TINY = 1e-9  # a map whose peak is not above is empty
FLOOR = 0.05  # of the peak: what the first fit reads as this low may be noise
FIRST_RADIUS = 2  # half side of its square
LOWEST = -1.0  # of the peak: lower values count as this
OUTLIER = (0.15, 0.25)  # of the peak, above the first fit: weight 1 up to the first, 0 from the second
MAX_LOG = 0.2  # ln m never exceeds this
PRIOR_RANGE = (1e-3, 1e6)  # stand for a free and for a known sigma; with less than the first, small maps are singular
MAX_RADIUS = 16
SIGMA_RANGE = (0.5, 64.0)  # a narrower target lies between the anchors


def wls(heatmaps: ArrayLike, *, sigma: float = 2.0, radius: int = RADIUS, prior: float = PRIOR) -> Decoded:
    """Landmarks of heatmaps by self-calibrating weighted multilateration.

    NaN, the infinities and values of 1e20 or more in size are unusable anchors and never the argmax; of equal maxima the
    first in row-major order counts. Where the peak is not above 1e-9, where the window has fewer than 4 usable anchors or all on a
    line, and where the peak is narrower than the grid, the landmark is the argmax itself, with the peak clipped to [0, 1] as score and
    a variance of 9. The result is always finite, at most 3 heatmap pixels from the argmax along x and y.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64.
        sigma: sigma of the training target in heatmap pixels.
        radius: of the disc of anchors in heatmap pixels, 1 to 16.
        prior: strength of the pull towards a round Gaussian of ``sigma``: roughly (noise over peak / relative spread of 1 / sigma^2)^2.
            0 (computed as 0.001, so that no window is singular) believes the map, infinity the target.

    Returns:
        Points in heatmap pixels, scores (the fitted amplitude in [0, 1]), covariance in heatmap pixels squared.

    Raises:
        UsageError: the maps have no pixels, or a parameter makes no sense.
    """
    parameters = check_parameters(sigma=sigma, radius=radius, prior=prior)
    peaks = find_peaks(heatmaps)
    points, scores, covariance = _decode(peaks, **parameters)
    return Decoded(points.reshape(*peaks.lead, 2), scores.reshape(peaks.lead), covariance.reshape(*peaks.lead, 3))


def check_parameters(*, sigma: float, radius: int = RADIUS, prior: float = PRIOR) -> dict[str, Any]:
    """The parameters of the solver with their types and bounds settled.

    Raises:
        UsageError: one of them makes no sense.
    """
    for ok, what in (
        (SIGMA_RANGE[0] <= sigma <= SIGMA_RANGE[1], f"sigma must be in 0.5..64 heatmap pixels, not {sigma}"),
        (radius in range(1, MAX_RADIUS + 1), f"radius must be a whole number in 1..{MAX_RADIUS}, not {radius}"),
        (prior >= 0, f"prior must be 0 or more, not {prior}"),
    ):
        if not ok:
            raise UsageError(f"Multilateration: {what}.")
    least, most = PRIOR_RANGE
    return {"sigma": float(sigma), "radius": int(radius), "prior": min(max(float(prior), least), most)}


def window_offsets(radius: int) -> NDArray[np.int64]:
    """[K, 2] dx, dy of the anchors: the square of the first fit row by row, the argmax in its middle, then the disc around it."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    first = np.maximum(abs(dx), abs(dy)) <= FIRST_RADIUS
    disc = dx**2 + dy**2 <= radius * (radius + 1)  # rounder than radius^2
    return np.concatenate([np.stack([dx, dy], -1)[chosen] for chosen in (first, disc & ~first)])


def first_anchors(radius: int) -> int:
    """How many anchors the first fit has: 25, or as many as the radius allows."""
    return (2 * min(FIRST_RADIUS, radius) + 1) ** 2


def features(radius: int, sigma: float) -> NDArray[np.float64]:
    """[K, 6] the features f of the anchors of a window."""
    x, y = window_offsets(radius).T.astype(np.float64)
    s = sigma**2
    return np.stack([np.ones_like(x), x, y, -(x**2 + y**2) / (2 * s), -(x**2 - y**2) / (2 * s), -x * y / s], -1)


def borders(size: int, radius: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The ways the border cuts a window along one axis.

    Returns:
        [size] the way of each cell and [ways, 2 radius + 1] which offsets are on the map.
    """
    anchors = np.arange(size)[:, None] + np.arange(-radius, radius + 1)
    ways, way_of_cell = np.unique((anchors >= 0) & (anchors < size), axis=0, return_inverse=True)
    return way_of_cell.ravel(), ways


def anchor_steps(height: int, width: int, radius: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """The anchors of a window by the way the border cuts it.

    Returns:
        [ways, K] steps from the argmax to the anchors in the flattened map, 0 for those beyond the border, [ways, K] which are on the
        map, and [height] and [width] numbers whose sum is the way of a cell.
    """
    (of_row, rows), (of_column, columns) = borders(height, radius), borders(width, radius)
    dx, dy = window_offsets(radius).T
    inside = (rows[:, dy + radius][:, None] & columns[:, dx + radius]).reshape(-1, len(dx))
    return np.where(inside, dy * width + dx, 0), inside, of_row * len(columns), of_column


def first_fit(height: int, width: int, sigma: float, radius: int, prior: float) -> NDArray[np.float64]:
    """[ways, 25, 6] the first fit as a linear map from ln h - f3 to theta - (0, 0, 0, 1, 0, 0), ways as in ``anchor_steps``."""
    count = first_anchors(radius)
    f = features(radius, sigma)[:count]
    ridge = np.diag([1e-9, 1e-9, 1e-9, prior, ROUND * prior, ROUND * prior])  # a little on the others: 1xN maps have no y
    ways, way = np.unique(anchor_steps(height, width, radius)[1][:, :count], axis=0, return_inverse=True)
    weighted = (np.exp(2 * f[:, 3]) * ways)[:, None] * f.T
    fits = np.asarray(np.linalg.solve(weighted @ f + ridge, weighted), np.float64)
    return fits.swapaxes(1, 2)[way.ravel()]


_anchor_steps = lru_cache(64)(anchor_steps)
_first_fit = lru_cache(64)(first_fit)


@lru_cache(64)
def _window(radius: int, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[K, 6] features and [K, 21] their products i <= j."""
    f = features(radius, sigma)
    i, j = np.triu_indices(f.shape[1])
    return f, f[:, i] * f[:, j]


def _decode(
    peaks: Peaks, *, sigma: float, radius: int, prior: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Points [M, 2], scores [M] and covariance [M, 3] of M maps."""
    maps, row, column, peak = peaks.maps, peaks.y, peaks.x, peaks.value
    _, height, width = maps.shape
    base = np.maximum(peak, TINY)
    steps, inside, of_row, of_column = _anchor_steps(height, width, radius)
    way = of_row[row] + of_column[column]
    anchors = maps.ravel().take(((np.arange(len(maps)) * height + row) * width + column)[:, None] + steps[way])
    usable = inside[way] & (np.abs(anchors) < HUGE)
    h = np.where(usable, anchors, 0) / base[:, None]

    f, ff = _window(radius, sigma)
    first = _first(h, usable, _first_fit(height, width, sigma, radius, prior)[way], f)
    m = np.exp(np.minimum(first @ f.T, MAX_LOG))
    residual = np.maximum(h, LOWEST) - m
    weight = np.minimum((OUTLIER[1] - residual) / (OUTLIER[1] - OUTLIER[0]), usable)  # 1, less, or 0 where not usable
    np.maximum(weight, 0, out=weight)
    residual_weight, m_weight = weight * residual, weight * m
    s, g = (m_weight * m) @ ff, (residual_weight * m) @ f
    rss, n = np.einsum("mk,mk->m", residual_weight, residual), weight.sum(-1)
    fit = solve(Sums(tuple(s.T), tuple(g.T), rss, n), tuple(first.T), np, sigma=sigma, prior=prior)

    solved = fit.solved & (peak > TINY)
    points = np.stack([column + np.where(solved, fit.x, 0), row + np.where(solved, fit.y, 0)], -1)
    scores = np.where(solved, np.exp(np.minimum(fit.log_amplitude + np.log(base), 0)), peak.clip(0, 1))
    covariance = np.stack([np.where(solved, v, w) for v, w in ((fit.xx, REACH**2), (fit.xy, 0), (fit.yy, REACH**2))], -1)
    return points.astype(np.float32), scores.astype(np.float32), covariance.astype(np.float32)


def _first(h: NDArray[np.float64], usable: NDArray[np.bool_], fit: NDArray[np.float64], f: NDArray[np.float64]) -> NDArray[np.float64]:
    """[M, 6] theta of the first fit to windows h [M, K]; ``fit`` [M, 25, 6] is its linear map."""
    count = fit.shape[1]
    over_target = np.log(np.maximum(h[:, :count], FLOOR)) - f[:count, 3]
    theta = np.matmul(np.where(usable[:, :count], over_target, 0)[:, None], fit)[:, 0]
    theta[:, 3] += 1
    return theta
