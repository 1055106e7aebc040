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


class Normal(NamedTuple):
    """Names of tensors [N, L, k]: the equations of a step with c and the place eliminated, see ``fit.Normal``.

    Attributes:
        s00: [1] sum of weights. mass: [5] of w f_1 to f_5. g0: [1] of m r. c: [1] g0 / s00.
        G: [3] xx, xy, yy of G^-1.
        X_u: [8] the rows of x and of y: three of G^-1 B, and one of the step of the place if that of the shape is 0.
        Q: [9] Schur complement of the shape. right: [3] its right-hand side.
        place_gain: [1] what the place alone takes off the sum of squares.
        regular: [1] positive where G can be inverted.
    """

    s00: str
    mass: str
    g0: str
    c: str
    G: str
    X_u: str
    Q: str
    right: str
    place_gain: str
    regular: str


class Held(NamedTuple):
    """Names of tensors: the step of the shape [3], the inverse [9] of its system with the ridge, the noise [3], three times the same, and
    the freedom [3] it was divided by before it was bounded."""

    step: str
    inverse: str
    noise: str
    freedom: str


def solve(f: Fragment, sums: Moments, first_step: str, first: str, *, sigma: float, prior: float) -> Found:
    """One Gauss-Newton step from ``first`` [N, L, 6], ``first_step`` more than theta of the target; symbols as in ``fit.solve``."""
    k0 = 1 / sigma**2
    normal = _eliminate(f, sums)
    held = _held_step(f, normal, sums, first_step, prior)
    c, g, kappa, skew = _theta(f, normal, held, first)
    k3 = _inverse_curvature(f, kappa, skew, k0)
    free = bilinear(f, "offset_free", k3, (3, 2, 2), g, [(i, INVERSE[i][k], k, 1.0) for i in (0, 1) for k in (0, 1)])
    offset = f("Clip", "offset", free, f.constant("reach_back", -REACH), f.constant("reach", REACH))
    rise = f("MatMul", "rise", f("Mul", "g_offset", g, offset), f.constant("half_twice", [[0.5], [0.5]]))
    covariance = _unit_covariance(f, normal, held, k3, offset, k0)
    margin = f("MatMul", "anchors_over_least", held.freedom, f.constant("a_third", np.full((3, 1), 1 / 3)))
    enough = f("Greater", "enough", margin, f.constant("too_few", MIN_ANCHORS - UNKNOWNS))
    return Found(
        offset,
        f("Add", "log_amplitude", c, rise),
        f("Mul", "heatmap_covariance", covariance, held.noise),
        f("And", "regular_and_enough", f("Greater", "regular", normal.regular, f.constant("singular", 0)), enough),
    )


def _eliminate(f: Fragment, sums: Moments) -> Normal:
    """Of the six equations those of the shape, and what the others need."""
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
    return Normal(s00, mass, g0, g0_mean, g3, X, free, r, place_gain, regular)


def _held_step(f: Fragment, normal: Normal, sums: Moments, first_step: str, prior: float) -> Held:
    """The step of the shape, held by the prior and by what a first step with the prior alone leaves as noise."""
    ridge = np.array([prior, ROUND * prior, ROUND * prior])
    Q_prior = f("Add", "Q_prior", normal.Q, f.constant("Q_ridge", np.diag(ridge).ravel()))
    shape = f("MatMul", "shape", first_step, f.constant("shape_of", selection(6, [3, 4, 5])))
    pull = f("MatMul", "pull", first_step, f.constant("pull_of", selection(6, [3, 4, 5]) * ridge))
    right_side = f("Sub", "right_side", normal.right, pull)
    inverse = _inverse(f, "prior_inverse", Q_prior)
    step = _product(f, "prior_step", inverse, right_side)
    found = f("Add", "prior_shape", shape, step)
    gain = f("Mul", "shape_gain", step, f("Add", "r_ridge", normal.right, f("Mul", "found_ridge", found, f.constant("ridge", ridge))))
    gains = f("Concat", "gains", gain, normal.place_gain, f("Mul", "weight_gain", normal.g0, normal.c), axis=2)
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
    Q_held = f("Add", "Q_held", Q_prior, f("MatMul", "pull_diagonal", pull, f.constant("on_diagonal", diagonal.T / SHRINK)))
    inverse = _inverse(f, "inverse", Q_held)
    step = _product(f, "step", inverse, f("Sub", "right_side_held", right_side, f("Mul", "pulled", pull, shape)))
    return Held(step, inverse, noise, freedom_free)


def _theta(f: Fragment, normal: Normal, held: Held, first: str) -> tuple[str, str, str, str]:
    """After the step: c [N, L, 1], g [N, L, 2], kappa [N, L, 1] and alpha, beta [N, L, 2]."""
    Xstep = bilinear(f, "X_step", normal.X_u, (8, 3, 2), held.step, [(i, 4 * i + q, q, -1.0) for i in (0, 1) for q in range(3)])
    u = f("MatMul", "u", normal.X_u, f.constant("u_of", selection(8, [3, 7])))
    others = f("Concat", "others_step", f("Add", "place_step", u, Xstep), held.step, axis=2)
    mean_step = f("MatMul", "mean_step_mass", f("Mul", "mass_step", normal.mass, others), f.constant("sum_of_others", np.ones((5, 1))))
    c_step = f("Sub", "c_step", normal.c, f("Div", "mean_step", mean_step, normal.s00))
    theta = f("Add", "theta", first, f("Concat", "theta_step", c_step, others, axis=2))
    theta_sizes = f.constant("theta_sizes", [1, 2, 1, 2], np.int64)
    c, g, kappa, skew = f.many("Split", "theta_parts", [theta, theta_sizes], 4, axis=2)
    bounds = f.constant("kappa_min", 1 / KAPPA_RANGE), f.constant("kappa_max", KAPPA_RANGE)
    return c, g, f("Clip", "kappa", kappa, *bounds), skew


def _inverse_curvature(f: Fragment, kappa: str, skew: str, k0: float) -> str:
    """[N, L, 3] xx, xy, yy of K^-1, heatmap pixels squared."""
    square = f("Mul", "kappa_squared", kappa, kappa)
    skewness = f("MatMul", "skewness", f("Mul", "skew_squared", skew, skew), f.constant("k0_twice", [[k0], [k0]]))
    det_K = f("Sub", "det_K", f("Mul", "kappa_squared_k0", square, f.constant("k0", k0)), skewness)
    det_K = f("Max", "det_K_bounded", det_K, f("Mul", "det_K_least", square, f.constant("min_roundness", MIN_ROUNDNESS * k0)))
    K = f("Concat", "K", kappa, skew, axis=2)
    return f("Div", "K_inverse", f("MatMul", "K_adjugate", K, f.constant("K_adjugate_of", [[1, 0, 1], [-1, 0, 1], [0, -1, 0]])), det_K)


def _unit_covariance(f: Fragment, normal: Normal, held: Held, k3: str, offset: str, k0: float) -> str:
    """[N, L, 3] K^-1 (G^-1 + Y (Q + ridge)^-1 Y^T) K^-1, the covariance of the offset over the noise."""
    turned = k0 * np.array([[1, 1, 0, 0, 0, 0, 1, 0], [0, 0, 1, 0, 1, -1, 0, 0]])
    Y = f("Add", "Y_and_u", normal.X_u, f("MatMul", "turned", offset, f.constant("turned_of", turned)))
    out = ((0, 0), (0, 1), (1, 1))
    quadratic = [(k, 4 * i + p, 4 * j + q, 1.0) for k, (i, j) in enumerate(out) for p in range(3) for q in range(3)]
    YY_products = f(
        "Mul",
        "Y_products",
        f("MatMul", "Y_first", Y, f.constant("Y_pick_first", selection(8, [t[1] for t in quadratic]))),
        f("MatMul", "Y_second", Y, f.constant("Y_pick_second", selection(8, [t[2] for t in quadratic]))),
    )
    spread = f("MatMul", "inverse_thrice", held.inverse, f.constant("thrice", np.tile(np.eye(9), 3)))
    spread = f("Mul", "Y_inverse_Y_terms", YY_products, spread)
    spread = f("MatMul", "Y_inverse_Y", spread, f.constant("sum_thrice", np.repeat(np.eye(3), 9, axis=0)))
    spread = f("Add", "gradient_covariance", normal.G, spread)
    terms = [(k, INVERSE[i][p], INVERSE[q][j], INVERSE[p][q]) for k, (i, j) in enumerate(out) for p in (0, 1) for q in (0, 1)]
    K_products = bilinear(f, "K_K", k3, (3, 3, 12), k3, [(n, t[1], t[2], 1.0) for n, t in enumerate(terms)])
    covariance = f("MatMul", "gradient_covariance_terms", spread, f.constant("spread_of", selection(3, [t[3] for t in terms])))
    covariance = f("Mul", "covariance_terms", K_products, covariance)
    return f("MatMul", "covariance_of_1", covariance, f.constant("sum_of_terms", np.repeat(np.eye(3), 4, axis=0)))


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
