"""The small systems behind ``wls``, on arrays of any library: NumPy computes with them, PyTorch also differentiates.

The model of a window, its unknowns and the symbols are those of ``keyposs_trt.decode.multilateration``. A window gives sums; what
follows from them is here, one number a map and symbol, with plain arithmetic and no loop over maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

# Limits shared by every implementation of this solver; a change of one is a change of the solver.
KAPPA_RANGE = 4.0  # kappa stays within this factor of 1, its value for the sigma of training
MIN_ANCHORS = 3.5  # amplitude, place and scale: no more than 3 anchors say nothing
MIN_DETERMINANT = 1e-2  # det G over Gxx * Gyy: anchors on a line give 0
MIN_SPREAD = 1e-4  # and over the square of the sum of weights, pixels^4: a model so narrow says nothing of its neighbours
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
        The solution; every number is finite, also where ``solved`` is false.
    """
    s, g = sums.s, sums.g
    s00 = xp.clip(s[0], 1e-12, None)
    mean = [v / s00 for v in s[1:6]]
    (xx, xy, xk, xa, xb), (yy, yk, ya, yb), (kk, ka, kb), (aa, ab), (bb,) = _centred(s, s00, mean)
    hx, hy, hk, ha, hb = (g[i + 1] - mean[i] * g[0] for i in range(5))

    solved = (sums.n > MIN_ANCHORS) & (xx * yy - xy * xy > MIN_DETERMINANT * xx * yy + MIN_SPREAD * s00 * s00)
    xx, yy = xp.where(solved, xx, 1.0), xp.where(solved, yy, 1.0)  # what follows, and its gradient, is finite also where it is not used
    xy, xk, xa, xb, yk, ya, yb = (xp.where(solved, v, 0.0) for v in (xy, xk, xa, xb, yk, ya, yb))
    det = xx * yy - xy * xy
    gxx, gxy, gyy = yy / det, -xy / det, xx / det  # G^-1
    X = [(gxx * u + gxy * v, gxy * u + gyy * v) for u, v in ((xk, yk), (xa, ya), (xb, yb))]
    B = ((xk, yk), (xa, ya), (xb, yb))

    def less(value: Any, i: int, j: int) -> Any:
        return value - B[i][0] * X[j][0] - B[i][1] * X[j][1]

    Q = (less(kk, 0, 0), less(ka, 0, 1), less(kb, 0, 2), less(aa, 1, 1), less(ab, 1, 2), less(bb, 2, 2))
    right = [h - x * hx - y * hy for h, (x, y) in zip((hk, ha, hb), X, strict=True)]
    shape = (first[3] - 1, first[4], first[5])  # relative to the expected one

    ridge = (prior, ROUND * prior, ROUND * prior)
    inverse = _inverse(Q, ridge, xp)
    step = _times(inverse, [r - p * q for r, p, q in zip(right, ridge, shape, strict=True)])
    found = [q + d for q, d in zip(shape, step, strict=True)]
    ux, uy = gxx * hx + gxy * hy, gxy * hx + gyy * hy
    explained = g[0] * g[0] / s00 + hx * ux + hy * uy + sum(d * (r + p * q) for d, r, p, q in zip(step, right, ridge, found, strict=True))
    noise = xp.clip(sums.rss - explained, 0, None) / xp.clip(sums.n - UNKNOWNS, 1, None)

    excess = found[0] * found[0] - SHRINK * noise * inverse[0]
    skew = found[1] * found[1] + found[2] * found[2] - SHRINK * noise * (inverse[3] + inverse[5])
    pull_k = prior + noise / xp.clip(excess, MIN_SHAPE, None)
    pull_a = ROUND * prior + 2 * noise / xp.clip(skew, MIN_SHAPE, None)
    ridge = (pull_k, pull_a, pull_a)
    inverse = _inverse(Q, ridge, xp)
    step = _times(inverse, [r - p * q for r, p, q in zip(right, ridge, shape, strict=True)])
    dx = ux - sum(x * d for (x, _), d in zip(X, step, strict=True))
    dy = uy - sum(y * d for (_, y), d in zip(X, step, strict=True))
    dc = g[0] / s00 - sum(m * d for m, d in zip(mean, (dx, dy, *step), strict=True))

    c, gx, gy = first[0] + dc, first[1] + dx, first[2] + dy
    kappa = xp.clip(first[3] + step[0], 1 / KAPPA_RANGE, KAPPA_RANGE)
    alpha, beta = first[4] + step[1], first[5] + step[2]
    k0 = 1 / sigma**2
    square = kappa * kappa
    det = k0 * xp.maximum(square - alpha * alpha - beta * beta, MIN_ROUNDNESS * square)
    kxx, kxy, kyy = (kappa - alpha) / det, -beta / det, (kappa + alpha) / det  # K^-1
    ox = xp.clip(kxx * gx + kxy * gy, -REACH, REACH)
    oy = xp.clip(kxy * gx + kyy * gy, -REACH, REACH)

    turned = ((k0 * ox, k0 * oy), (k0 * ox, -k0 * oy), (k0 * oy, k0 * ox))  # d(K offset) / d shape
    Y = [(x + t, y + u) for (x, y), (t, u) in zip(X, turned, strict=True)]
    rows = [_times(inverse, [v[i] for v in Y]) for i in (0, 1)]
    cxx = gxx + sum(r * v[0] for r, v in zip(rows[0], Y, strict=True))
    cxy = gxy + sum(r * v[1] for r, v in zip(rows[0], Y, strict=True))
    cyy = gyy + sum(r * v[1] for r, v in zip(rows[1], Y, strict=True))
    left = (kxx * cxx + kxy * cxy, kxx * cxy + kxy * cyy)
    down = (kxy * cxx + kyy * cxy, kxy * cxy + kyy * cyy)
    return Solution(
        x=ox,
        y=oy,
        log_amplitude=c + (gx * ox + gy * oy) / 2,
        xx=noise * (left[0] * kxx + left[1] * kxy),
        xy=noise * (left[0] * kxy + left[1] * kyy),
        yy=noise * (down[0] * kxy + down[1] * kyy),
        solved=solved,
    )


def _centred(s: tuple[Any, ...], s00: Any, mean: list[Any]) -> list[list[Any]]:
    """Upper triangle, row by row, of the sums of products about the weighted means."""
    rows, k = [], 6
    for i in range(5):
        rows.append([s[k + j - i] - s00 * mean[i] * mean[j] for j in range(i, 5)])
        k += 5 - i
    return rows


def _inverse(Q: tuple[Any, ...], ridge: tuple[Any, ...], xp: Any) -> tuple[Any, ...]:
    """Of the symmetric Q + diag(ridge), both as 00, 01, 02, 11, 12, 22."""
    a, b, c, d, e, f = Q
    a, d, f = a + ridge[0], d + ridge[1], f + ridge[2]
    A, B, C = d * f - e * e, c * e - b * f, b * e - c * d
    det = xp.clip(a * A + b * B + c * C, 1e-30, None)
    return A / det, B / det, C / det, (a * f - c * c) / det, (b * c - a * e) / det, (a * d - b * b) / det


def _times(S: tuple[Any, ...], v: list[Any]) -> list[Any]:
    """The symmetric S (00, 01, 02, 11, 12, 22) times v."""
    return [S[0] * v[0] + S[1] * v[1] + S[2] * v[2], S[1] * v[0] + S[3] * v[1] + S[4] * v[2], S[2] * v[0] + S[4] * v[1] + S[5] * v[2]]
