"""``keyposs_trt.decode.fit`` as ONNX operators.

Everything is a vector [N, L, k] of a few numbers a map. A bilinear form of two vectors, such as a determinant, a matrix times a vector or
a product of small matrices, is three matrix products with constants and one Mul: MatMul picks and adds far more cheaply than Gather,
Slice and ReduceSum do. TensorRT may round what enters a MatMul to TF32 (10 bits) where its user allows that; the fit only computes small
corrections this way, so landmarks move by less than a hundredth of a heatmap pixel (a test computes so).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keyposs_trt.decode.fit import (
    KAPPA_RANGE,
    MIN_ANCHORS,
    MIN_DETERMINANT,
    MIN_ROUNDNESS,
    MIN_SHAPE,
    MIN_SPREAD,
    REACH,
    ROUND,
    SHRINK,
    UNKNOWNS,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from keyposs_trt.decode.onnx_fragment import Fragment

# Numbers of the vector C of centred products.
XX, XY, YY, XK, XA, XB, YK, YA, YB, KK, KA, KB, AA, AB, BB = range(15)
WEIGHT = 20  # and behind that the sum of weights
PAIRS = [(0, 0), (0, 1), (1, 1), *((i, j) for i in (0, 1) for j in (2, 3, 4)), *((i, j) for i in (2, 3, 4) for j in (2, 3, 4) if i <= j)]
HX, HY, HK, HA, HB = range(15, 20)  # behind C stands the centred right-hand side
B = ((XK, XA, XB), (YK, YA, YB))
Q = ((KK, KA, KB), (KA, AA, AB), (KB, AB, BB))
INVERSE = ((0, 1), (1, 2))  # of the vectors g3 = G^-1 and k3 = K^-1, both as xx, xy, yy

Terms = list[tuple[int, int, int, float]]  # out number, number of the first vector, of the second, factor


class Moments(NamedTuple):
    """Names of tensors [N, L, k]: sums over a window, see ``fit.Sums``.

    Attributes:
        products: [51] of w f_i f_j in the order of ``PAIRS``, of w, of w f_i and of w f_j in that order, of w f_1 to f_5.
        gradient: [6]. rss: [3], three times the same. n: [3], likewise.
    """

    products: str
    gradient: str
    rss: str
    n: str


class Found(NamedTuple):
    """Names of tensors: offset [N, L, 2], ln amplitude [N, L, 1] over the peak, covariance [N, L, 3], solved [N, L, 1] bool."""

    offset: str
    log_amplitude: str
    covariance: str
    solved: str


def moment_columns(f: np.ndarray) -> np.ndarray:
    """[K, 51] the columns of ``Moments.products`` for the features [K, 6] of a window."""
    g = f[:, 1:]
    i, j = np.array(PAIRS).T
    return np.concatenate([g[:, i] * g[:, j], f[:, :1], g[:, i], g[:, j], g], 1)


def selection(size: int, picks: ArrayLike) -> np.ndarray:
    """[size, picks] matrix that picks numbers of a vector by their index."""
    return np.eye(size)[:, np.asarray(picks, int)]


def bilinear(f: Fragment, name: str, first: str, sizes: tuple[int, int, int], second: str, terms: Terms) -> str:
    """out[k] = sum of factor * first[i] * second[j] over the terms (k, i, j, factor); ``sizes`` of first, second and out."""
    out, i, j, factor = zip(*terms, strict=True)
    gather = np.zeros((len(terms), sizes[2]))
    gather[range(len(terms)), out] = factor
    a = f("MatMul", f"{name}/first", first, f.constant(f"{name}/pick_first", selection(sizes[0], i)))
    b = f("MatMul", f"{name}/second", second, f.constant(f"{name}/pick_second", selection(sizes[1], j)))
    return f("MatMul", name, f("Mul", f"{name}/products", a, b), f.constant(f"{name}/sum", gather))


def solve(f: Fragment, sums: Moments, first_step: str, first: str, *, sigma: float, prior: float) -> Found:
    """One Gauss-Newton step from ``first`` [N, L, 6], ``first_step`` more than theta of the target; symbols as in ``fit.solve``."""
    k0 = 1 / sigma**2
    sizes = f.constant("moment_sizes", [15, 1, 15, 15, 5], np.int64)
    S, s00, left, right, mass = f.many("Split", "moments", [sums.products, sizes], 5, axis=2)
    g0, g5 = f.many("Split", "gradient_parts", [sums.gradient, f.constant("gradient_sizes", [1, 5], np.int64)], 2, axis=2)
    g0_mean = f("Div", "g0_mean", g0, s00)
    products = f("Sub", "products_centred", S, f("Div", "mean_products", f("Mul", "mass_products", left, right), s00))
    C = f("Concat", "C", products, f("Sub", "h", g5, f("Mul", "h_mean", mass, g0_mean)), s00, axis=2)

    # G^-1; X = G^-1 B and u = G^-1 h; the Schur complements Q - B^T X and r = h - X^T h, and u . h.
    determinant = [term for i in range(3) for term in ((i, XX, YY, 1.0), (i, XY, XY, -1.0))]  # three times, as three are divided by it
    margin = [(3, XX, YY, 1 - MIN_DETERMINANT), (3, XY, XY, -1.0), (3, WEIGHT, WEIGHT, -MIN_SPREAD)]
    both = bilinear(f, "determinants", C, (21, 21, 4), C, determinant + margin)
    det, regular = f.many("Split", "determinant_parts", [both, f.constant("determinant_sizes", [3, 1], np.int64)], 2, axis=2)
    adjugate = np.zeros((21, 3))
    adjugate[[YY, XY, XX], range(3)] = 1, -1, 1
    g3 = f("Div", "g_inverse", f("MatMul", "g_adjugate", C, f.constant("g_adjugate_of", adjugate)), det)
    columns = [*zip(*B, strict=True), (HX, HY)]
    terms = [(4 * i + q, INVERSE[i][k], column[k], 1.0) for i in (0, 1) for q, column in enumerate(columns) for k in (0, 1)]
    X = bilinear(f, "X_u", g3, (3, 21, 8), C, terms)
    terms = [(3 * p + q, B[i][p], 4 * i + q, -1.0) for p in range(3) for q in range(3) for i in (0, 1)]
    terms += [(9 + q, B[i][q], 4 * i + 3, -1.0) for q in range(3) for i in (0, 1)]
    terms += [(12, h, 4 * i + 3, 1.0) for i, h in enumerate((HX, HY))]
    full = np.concatenate([selection(21, [*(v for row in Q for v in row), HK, HA, HB]), np.zeros((21, 1))], 1)
    less = bilinear(f, "schur_less", C, (21, 8, 13), X, terms)
    schur = f("Add", "schur", f("MatMul", "schur_full", C, f.constant("schur_of", full)), less)
    free, r, place_gain = f.many("Split", "schur_parts", [schur, f.constant("schur_sizes", [9, 3, 1], np.int64)], 3, axis=2)

    # The shape as the prior has it, and from what the step explains the noise.
    ridge = np.array([prior, ROUND * prior, ROUND * prior])
    Q_prior = f("Add", "Q_prior", free, f.constant("Q_ridge", np.diag(ridge).ravel()))
    shape = f("MatMul", "shape", first_step, f.constant("shape_of", selection(6, [3, 4, 5])))
    pull = f("MatMul", "pull", first_step, f.constant("pull_of", selection(6, [3, 4, 5]) * ridge))
    right_side = f("Sub", "right_side", r, pull)
    inverse = _inverse(f, "prior_inverse", Q_prior)
    step = _product(f, "prior_step", inverse, right_side)
    found = f("Add", "prior_shape", shape, step)
    gain = f("Mul", "shape_gain", step, f("Add", "r_ridge", r, f("Mul", "found_ridge", found, f.constant("ridge", ridge))))
    gains = f("Concat", "gains", gain, place_gain, f("Mul", "weight_gain", g0, g0_mean), axis=2)
    explained = f("MatMul", "explained", gains, f.constant("sum_of_gains", np.ones((5, 3))))
    zero, one = f.constant("zero", 0), f.constant("least_freedom", 1)
    left_over = f("Max", "left_over", f("Sub", "left_over_signed", sums.rss, explained), zero)
    freedom_free = f("Sub", "n_free", sums.n, f.constant("unknowns", UNKNOWNS))
    freedom = f("Max", "freedom", freedom_free, one)
    noise = f("Div", "noise", left_over, freedom)

    # What of the shape could be noise is shrunk.
    diagonal = np.zeros((9, 3))
    diagonal[[0, 4, 8], range(3)] = SHRINK
    variances = f("Mul", "variances", noise, f("MatMul", "diagonal", inverse, f.constant("diagonal_of", diagonal)))
    excess = f("Sub", "excess", f("Mul", "found_squared", found, found), variances)
    together = f("MatMul", "excess_by_kind", excess, f.constant("kinds", [[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]))
    tau = f("Max", "tau_squared", together, f.constant("min_shape", [MIN_SHAPE, MIN_SHAPE / 2, MIN_SHAPE / 2]))
    pull = f("Div", "noise_pull", noise, tau)
    held = f("Add", "Q_held", Q_prior, f("MatMul", "pull_diagonal", pull, f.constant("on_diagonal", diagonal.T / SHRINK)))
    inverse = _inverse(f, "inverse", held)
    step = _product(f, "step", inverse, f("Sub", "right_side_held", right_side, f("Mul", "pulled", pull, shape)))

    # theta after the step.
    Xstep = bilinear(f, "X_step", X, (8, 3, 2), step, [(i, 4 * i + q, q, -1.0) for i in (0, 1) for q in range(3)])
    u = f("MatMul", "u", X, f.constant("u_of", selection(8, [3, 7])))
    others = f("Concat", "others_step", f("Add", "place_step", u, Xstep), step, axis=2)
    mean_step = f("MatMul", "mean_step_mass", f("Mul", "mass_step", mass, others), f.constant("sum_of_others", np.ones((5, 1))))
    c_step = f("Sub", "c_step", g0_mean, f("Div", "mean_step", mean_step, s00))
    theta = f("Add", "theta", first, f("Concat", "theta_step", c_step, others, axis=2))
    theta_sizes = f.constant("theta_sizes", [1, 2, 1, 2], np.int64)
    c, g, kappa, skew = f.many("Split", "theta_parts", [theta, theta_sizes], 4, axis=2)
    bounds = f.constant("kappa_min", 1 / KAPPA_RANGE), f.constant("kappa_max", KAPPA_RANGE)
    kappa = f("Clip", "kappa", kappa, *bounds)

    # K^-1 and where the gradient vanishes.
    square = f("Mul", "kappa_squared", kappa, kappa)
    skewness = f("MatMul", "skewness", f("Mul", "skew_squared", skew, skew), f.constant("k0_twice", [[k0], [k0]]))
    det_K = f("Sub", "det_K", f("Mul", "kappa_squared_k0", square, f.constant("k0", k0)), skewness)
    det_K = f("Max", "det_K_bounded", det_K, f("Mul", "det_K_least", square, f.constant("min_roundness", MIN_ROUNDNESS * k0)))
    K = f("Concat", "K", kappa, skew, axis=2)
    k3 = f("Div", "K_inverse", f("MatMul", "K_adjugate", K, f.constant("K_adjugate_of", [[1, 0, 1], [-1, 0, 1], [0, -1, 0]])), det_K)
    free = bilinear(f, "offset_free", k3, (3, 2, 2), g, [(i, INVERSE[i][k], k, 1.0) for i in (0, 1) for k in (0, 1)])
    offset = f("Clip", "offset", free, f.constant("reach_back", -REACH), f.constant("reach", REACH))
    rise = f("MatMul", "rise", f("Mul", "g_offset", g, offset), f.constant("half_twice", [[0.5], [0.5]]))

    # noise K^-1 (G^-1 + Y Q^-1 Y^T) K^-1.
    turned = k0 * np.array([[1, 1, 0, 0, 0, 0, 1, 0], [0, 0, 1, 0, 1, -1, 0, 0]])
    Y = f("Add", "Y_and_u", X, f("MatMul", "turned", offset, f.constant("turned_of", turned)))
    out = ((0, 0), (0, 1), (1, 1))
    quadratic = [(k, 4 * i + p, 4 * j + q, 1.0) for k, (i, j) in enumerate(out) for p in range(3) for q in range(3)]
    YY_products = f(
        "Mul",
        "Y_products",
        f("MatMul", "Y_first", Y, f.constant("Y_pick_first", selection(8, [t[1] for t in quadratic]))),
        f("MatMul", "Y_second", Y, f.constant("Y_pick_second", selection(8, [t[2] for t in quadratic]))),
    )
    spread = f("MatMul", "inverse_thrice", inverse, f.constant("thrice", np.tile(np.eye(9), 3)))
    spread = f("Mul", "Y_inverse_Y_terms", YY_products, spread)
    spread = f("MatMul", "Y_inverse_Y", spread, f.constant("sum_thrice", np.repeat(np.eye(3), 9, axis=0)))
    spread = f("Add", "gradient_covariance", g3, spread)
    terms = [(k, INVERSE[i][p], INVERSE[q][j], INVERSE[p][q]) for k, (i, j) in enumerate(out) for p in (0, 1) for q in (0, 1)]
    K_products = bilinear(f, "K_K", k3, (3, 3, 12), k3, [(n, t[1], t[2], 1.0) for n, t in enumerate(terms)])
    covariance = f("MatMul", "gradient_covariance_terms", spread, f.constant("spread_of", selection(3, [t[3] for t in terms])))
    covariance = f("Mul", "covariance_terms", K_products, covariance)
    covariance = f("MatMul", "covariance_of_1", covariance, f.constant("sum_of_terms", np.repeat(np.eye(3), 4, axis=0)))

    margin = f("MatMul", "anchors_over_least", freedom_free, f.constant("a_third", np.full((3, 1), 1 / 3)))
    enough = f("Greater", "enough", margin, f.constant("too_few", MIN_ANCHORS - UNKNOWNS))
    return Found(
        offset,
        f("Add", "log_amplitude", c, rise),
        f("Mul", "heatmap_covariance", covariance, noise),
        f("And", "regular_and_enough", f("Greater", "regular", regular, zero), enough),
    )


def _inverse(f: Fragment, name: str, S: str) -> str:
    """Of symmetric 3x3 matrices [N, L, 9], by cofactors."""
    pairs = [((i + 1) % 3, (i + 2) % 3) for i in range(3)]
    terms = []
    for i, (r, s) in enumerate(pairs):
        for j, (p, q) in enumerate(pairs):
            terms += [(3 * i + j, 3 * r + p, 3 * s + q, 1.0), (3 * i + j, 3 * r + q, 3 * s + p, -1.0)]
    cofactors = bilinear(f, f"{name}/cofactors", S, (9, 9, 9), S, terms)
    row = np.zeros((9, 9))
    row[:3] = 1  # nine times the same, as nine are divided by it
    det = f("MatMul", f"{name}/det", f("Mul", f"{name}/expansion", S, cofactors), f.constant(f"{name}/first_row", row))
    return f("Div", name, cofactors, det)


def _product(f: Fragment, name: str, S: str, v: str) -> str:
    """3x3 matrices [N, L, 9] times vectors [N, L, 3]."""
    tiled = f("MatMul", f"{name}/tiled", v, f.constant(f"{name}/thrice", np.tile(np.eye(3), 3)))
    return f("MatMul", name, f("Mul", f"{name}/terms", S, tiled), f.constant(f"{name}/sum", np.repeat(np.eye(3), 3, axis=0)))
