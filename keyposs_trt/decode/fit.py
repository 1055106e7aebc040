"""The small systems behind ``wls``, on arrays of any library: NumPy computes with them, PyTorch also differentiates.

The model of a window, its unknowns and the symbols are those of ``keyposs_trt.decode.multilateration``. A window gives sums; what
follows from them is here, one number a map and symbol, with plain arithmetic and no loop over maps.

The step of theta = (c, place, shape), place = (gx, gy) and shape = (kappa, alpha, beta), solves six equations. c is eliminated by
centring the features, then the place by the 2x2 block G of its own, which leaves three equations for the shape with the Schur complement
Q. Only these have a ridge, so they are solved twice, with two ridges, and the rest once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

# Limits shared by every implementation of this solver; a change of one is a change of the solver.
KAPPA_RANGE = 4.0  # kappa stays within this factor of 1, its value for the sigma of training
MIN_ANCHORS = 3.5  # amplitude, place and scale: no more than 3 anchors say nothing
MIN_DETERMINANT = 1e-2  # det G over Gxx * Gyy: anchors on a line give 0
MIN_SPREAD = 1e-4  # and over the square of the sum of weights, pixels^4: a model so narrow says nothing of its neighbours
MIN_INDEPENDENCE = 1e-5  # det of the shape's system over the product of its diagonal: less is rounding of float32
MIN_ROUNDNESS = 0.25  # det K over (kappa / sigma^2)^2: an ellipse of axes 1 : 3.7
ROUND = 4.0  # a round Gaussian is expected this much more firmly than the sigma of training
SHRINK = 2.0  # a shape that differs from the expected one by less than this many variances is noise
MIN_SHAPE = 3e-4  # variance of shapes that are always believed
REACH = 3.0  # a landmark lies within so many heatmap pixels of the argmax
UNKNOWNS = 6


class Sums(NamedTuple):
    """Sums over the anchors of a window, arrays of one shape, one number a map.

    Attributes:
        s: of w f_i f_j, i <= j, row by row: 00, 01, ..., 05, 11, 12, ..., 55.
        g: of m r f_i, the six features.
        rss: of r^2.
        n: anchors.
    """

    s: tuple[Any, ...]
    g: tuple[Any, ...]
    rss: Any
    n: Any


class Normal(NamedTuple):
    """The equations of a step with c and the place eliminated.

    Attributes:
        mean: of features 1 to 5, weighted.
        G: xx, xy, yy of G^-1, G the centred products of x and y.
        X: G^-1 B, B the centred products of x and y with kappa, alpha and beta: a pair (x, y) of each of the three.
        Q: Schur complement of the shape, 00, 01, 02, 11, 12, 22.
        c: step of c if the other five are 0.
        place: step of the place if that of the shape is 0.
        right: right-hand side of the shape.
        explained: what c and the place alone take off the sum of squares.
        regular: whether G can be inverted; where not, G^-1 and X are those of other numbers, so that all stay finite.
    """

    mean: list[Any]
    G: tuple[Any, Any, Any]
    X: list[tuple[Any, Any]]
    Q: tuple[Any, ...]
    c: Any
    place: tuple[Any, Any]
    right: list[Any]
    explained: Any
    regular: Any


@dataclass(frozen=True)
class Solution:
    """Of each map: the offset from the argmax, ln of the amplitude over the peak, the covariance, and whether there is one at all."""

    x: Any
    y: Any
    log_amplitude: Any
    xx: Any
    xy: Any
    yy: Any
    solved: Any


def solve(sums: Sums, first: tuple[Any, ...], xp: Any, *, sigma: float, prior: float) -> Solution:
    """One Gauss-Newton step from the ``first`` fit, the shape shrunk by what the noise of the window allows.

    Args:
        sums: at ``first``.
        first: c, gx, gy, kappa, alpha, beta: arrays like those of the sums.
        xp: ``numpy`` or ``torch``.
        sigma: of the training target, heatmap pixels.
        prior: strength of the pull towards that sigma; the pull towards a round Gaussian is ``ROUND`` times as strong.

    Returns:
        The solution; every number is finite where ``solved`` is true.
    """
    normal = _eliminate(sums, xp)
    shape = (first[3] - 1, first[4], first[5])  # relative to the expected one
    ridge, noise = _shrinkage(normal, sums, shape, prior, xp)
    inverse, step = _shape_step(normal, shape, ridge, xp)
    dx = normal.place[0] - sum(x * d for (x, _), d in zip(normal.X, step, strict=True))
    dy = normal.place[1] - sum(y * d for (_, y), d in zip(normal.X, step, strict=True))
    dc = normal.c - sum(m * d for m, d in zip(normal.mean, (dx, dy, *step), strict=True))

    c, gx, gy, kappa, alpha, beta = (v + d for v, d in zip(first, (dc, dx, dy, *step), strict=True))
    kappa = xp.clip(kappa, 1 / KAPPA_RANGE, KAPPA_RANGE)
    k0 = 1 / sigma**2
    K = _inverse_curvature(kappa, alpha, beta, k0, xp)
    x = xp.clip(K[0] * gx + K[1] * gy, -REACH, REACH)
    y = xp.clip(K[1] * gx + K[2] * gy, -REACH, REACH)
    log_amplitude = c + (gx * x + gy * y) / 2
    xx, xy, yy = (noise * v for v in _unit_covariance(normal, inverse, K, k0 * x, k0 * y))
    finite = xp.isfinite(x + y + log_amplitude + xx + xy + yy)
    return Solution(x, y, log_amplitude, xx, xy, yy, normal.regular & finite)


def _eliminate(sums: Sums, xp: Any) -> Normal:
    """Of the six equations those of the shape, and what the others need."""
    s, g = sums.s, sums.g
    s00 = xp.clip(s[0], 1e-12, None)
    mean = [v / s00 for v in s[1:6]]
    (xx, xy, xk, xa, xb), (yy, yk, ya, yb), (kk, ka, kb), (aa, ab), (bb,) = _centred(s, s00, mean)
    hx, hy, hk, ha, hb = (g[i + 1] - mean[i] * g[0] for i in range(5))

    regular = (sums.n > MIN_ANCHORS) & (xx * yy - xy * xy > MIN_DETERMINANT * xx * yy + MIN_SPREAD * s00 * s00)
    xx, yy = xp.where(regular, xx, 1.0), xp.where(regular, yy, 1.0)  # what follows, and its gradient, is finite also where it is not used
    xy, xk, xa, xb, yk, ya, yb = (xp.where(regular, v, 0.0) for v in (xy, xk, xa, xb, yk, ya, yb))
    det = xx * yy - xy * xy
    gxx, gxy, gyy = yy / det, -xy / det, xx / det
    B = ((xk, yk), (xa, ya), (xb, yb))
    X = [(gxx * u + gxy * v, gxy * u + gyy * v) for u, v in B]

    def less(value: Any, i: int, j: int) -> Any:
        return value - B[i][0] * X[j][0] - B[i][1] * X[j][1]

    ux, uy = gxx * hx + gxy * hy, gxy * hx + gyy * hy
    return Normal(
        mean=mean,
        G=(gxx, gxy, gyy),
        X=X,
        Q=(less(kk, 0, 0), less(ka, 0, 1), less(kb, 0, 2), less(aa, 1, 1), less(ab, 1, 2), less(bb, 2, 2)),
        c=g[0] / s00,
        place=(ux, uy),
        right=[h - x * hx - y * hy for h, (x, y) in zip((hk, ha, hb), X, strict=True)],
        explained=g[0] * g[0] / s00 + hx * ux + hy * uy,
        regular=regular,
    )


def _shrinkage(normal: Normal, sums: Sums, shape: tuple[Any, ...], prior: float, xp: Any) -> tuple[tuple[Any, ...], Any]:
    """The ridge of the shape that allows for noise, and the variance of that noise after a step held by the prior alone."""
    ridge = (prior, ROUND * prior, ROUND * prior)
    inverse, step = _shape_step(normal, shape, ridge, xp)
    found = [q + d for q, d in zip(shape, step, strict=True)]
    explained = normal.explained + sum(d * (r + p * q) for d, r, p, q in zip(step, normal.right, ridge, found, strict=True))
    noise = xp.clip(sums.rss - explained, 0, None) / xp.clip(sums.n - UNKNOWNS, 1, None)

    excess = found[0] * found[0] - SHRINK * noise * inverse[0]
    skew = found[1] * found[1] + found[2] * found[2] - SHRINK * noise * (inverse[3] + inverse[5])
    pull_k = ridge[0] + noise / xp.clip(excess, MIN_SHAPE, None)
    pull_a = ridge[1] + 2 * noise / xp.clip(skew, MIN_SHAPE, None)  # two numbers, alpha and beta, share one tau^2
    return (pull_k, pull_a, pull_a), noise


def _shape_step(normal: Normal, shape: tuple[Any, ...], ridge: tuple[Any, ...], xp: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """(Q + ridge)^-1 and the step of the shape, which is ``shape`` more than the expected one."""
    inverse = _inverse(normal.Q, ridge, xp)
    return inverse, _times(inverse, [r - p * q for r, p, q in zip(normal.right, ridge, shape, strict=True)])


def _inverse_curvature(kappa: Any, alpha: Any, beta: Any, k0: float, xp: Any) -> tuple[Any, Any, Any]:
    """xx, xy, yy of K^-1, heatmap pixels squared; ``k0`` is 1 / sigma^2 of the training target."""
    square = kappa * kappa
    det = k0 * xp.maximum(square - alpha * alpha - beta * beta, MIN_ROUNDNESS * square)
    return (kappa - alpha) / det, -beta / det, (kappa + alpha) / det


def _unit_covariance(normal: Normal, inverse: tuple[Any, ...], K: tuple[Any, Any, Any], tx: Any, ty: Any) -> tuple[Any, Any, Any]:
    """xx, xy, yy of K^-1 (G^-1 + Y (Q + ridge)^-1 Y^T) K^-1, the covariance of the offset over the noise.

    Y = X + d(K offset) / d shape says how the offset moves with the shape; ``inverse`` is (Q + ridge)^-1, ``K`` is K^-1, and ``tx``, ``ty``
    are k0 times the offset.
    """
    turned = ((tx, ty), (tx, -ty), (ty, tx))
    Y = [(x + t, y + u) for (x, y), (t, u) in zip(normal.X, turned, strict=True)]
    rows = [_times(inverse, [v[i] for v in Y]) for i in (0, 1)]
    gxx, gxy, gyy = normal.G
    cxx = gxx + sum(r * v[0] for r, v in zip(rows[0], Y, strict=True))
    cxy = gxy + sum(r * v[1] for r, v in zip(rows[0], Y, strict=True))
    cyy = gyy + sum(r * v[1] for r, v in zip(rows[1], Y, strict=True))
    kxx, kxy, kyy = K
    left = (kxx * cxx + kxy * cxy, kxx * cxy + kxy * cyy)
    down = (kxy * cxx + kyy * cxy, kxy * cxy + kyy * cyy)
    return left[0] * kxx + left[1] * kxy, left[0] * kxy + left[1] * kyy, down[0] * kxy + down[1] * kyy


def _centred(s: tuple[Any, ...], s00: Any, mean: list[Any]) -> list[list[Any]]:
    """Upper triangle, row by row, of the sums of products about the weighted means."""
    rows, k = [], 6
    for i in range(5):
        rows.append([s[k + j - i] - s00 * mean[i] * mean[j] for j in range(i, 5)])
        k += 5 - i
    return rows


def _inverse(Q: tuple[Any, ...], ridge: tuple[Any, ...], xp: Any) -> tuple[Any, ...]:
    """Of the symmetric Q + diag(ridge), both as 00, 01, 02, 11, 12, 22; the ridge is positive, Q is semidefinite but for rounding."""
    a, b, c, d, e, f = Q
    a, d, f = a + ridge[0], d + ridge[1], f + ridge[2]
    A, B, C = d * f - e * e, c * e - b * f, b * e - c * d
    det = xp.maximum(a * A + b * B + c * C, xp.clip(MIN_INDEPENDENCE * a * d * f, 1e-30, None))
    return A / det, B / det, C / det, (a * f - c * c) / det, (b * c - a * e) / det, (a * d - b * b) / det


def _times(S: tuple[Any, ...], v: list[Any]) -> list[Any]:
    """The symmetric S (00, 01, 02, 11, 12, 22) times v."""
    return [S[0] * v[0] + S[1] * v[1] + S[2] * v[2], S[1] * v[0] + S[3] * v[1] + S[4] * v[2], S[2] * v[0] + S[4] * v[1] + S[5] * v[2]]
