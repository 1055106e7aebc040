"""``keyposs_trt.decode.fit`` as ONNX operators, in rows of ``onnx_rows``.

A system is solved by Cramer's rule: all numerators and the determinant are polynomials of the same products.

TensorRT may round what enters a MatMul to TF32 (10 bits) where its user allows that; the fit only computes small corrections this way, so
landmarks move by less than a hundredth of a heatmap pixel (a test computes so).
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
from keyposs_trt.decode.onnx_rows import (
    ONE,
    ZERO,
    Polynomial,
    Products,
    Rows,
    joined,
    linear,
    pick,
    plus,
    products,
    quotients,
    sums,
    symbol,
    times,
)

if TYPE_CHECKING:
    from keyposs_trt.decode.onnx_fragment import Fragment

PLACE, SHAPE = (1, 2), (3, 4, 5)  # features: x and y; those of kappa, alpha and beta
OTHERS = (*PLACE, *SHAPE)  # all but the constant


class Found(NamedTuple):
    """Names of tensors: ``offset`` [N, 2, L] in crop pixels, ``score`` [N, 1, L], ``covariance`` [N, 3, L] in crop pixels squared, and
    ``checks`` [N, 5, L], all finite numbers where there is a solution."""

    offset: str
    score: str
    covariance: str
    checks: str


def entry(kind: str, i: int, j: int) -> str:
    """Name of an entry of a symmetric matrix."""
    return f"{kind}{min(i, j)}{max(i, j)}"


def sum_names() -> tuple[str, ...]:
    """The rows ``solve`` takes: sums of w m^2 f_i f_j, i <= j, with the ridge; 0; sums of w m r f_i, of w r^2, and of w less the number of
    unknowns; the first fit less theta of the target, 1, and the peak."""
    products = (entry("s", i, j) for i in range(6) for j in range(i, 6))
    return (*products, ZERO, *(f"g{i}" for i in range(6)), "rss", "freedom", *(f"first{i}" for i in range(6)), ONE, "peak")


def ridge(prior: float) -> list[tuple[int, float]]:
    """The features of the shape and what the prior adds to their sums of squares."""
    return [*zip(SHAPE, (prior, ROUND * prior, ROUND * prior), strict=True)]


def minors() -> dict[tuple[int, int], Polynomial]:
    """Cofactors of A."""
    others = {3: (4, 5), 4: (5, 3), 5: (3, 4)}

    def a(i: int, j: int) -> Polynomial:
        return symbol(entry("a", i, j))

    return {
        (i, j): plus(times(a(r, p), a(s, q)), times(a(r, q), a(s, p), {(): -1.0}))
        for i, (r, s) in others.items()
        for j, (p, q) in others.items()
    }


def solve(f: Fragment, window: Rows, *, sigma: float, prior: float, stride: float, tiny: float, huge: float) -> Found:
    """One Gauss-Newton step from the sums named by ``sum_names``; symbols as in ``fit.solve``."""
    k0 = 1 / sigma**2
    centred = _centred(f, window)
    place, checks = _place(f, centred, tiny, huge)
    schur = _schur(f, centred, place, prior)
    noise, held = _held(f, window, schur, prior)
    shape = _shape(f, "shape", held, {**_shape_steps(), **_inverse()})
    # theta of the amplitude and the place after the step.
    all_rows = joined(f, "steps_and_equations", shape, place, schur, checks)
    rest = {i: plus({(f"first{i}", ONE): 1.0}, {(f"u{i}", ONE): 1.0}, {(f"d{q}", f"x{i}{q}"): -1.0 for q in SHAPE}) for i in range(3)}
    rest[0] = plus(rest[0], {("log_peak", ONE): 1.0})  # the window is relative to the peak
    parts = products(f, "place_parts", (all_rows, all_rows), {str(i): v for i, v in rest.items()})
    c, g = sums(f, "c", parts, {"c": rest[0]}), sums(f, "g", parts, {"gx": rest[1], "gy": rest[2]})

    curvature = _inverse_curvature(f, shape, schur, k0)
    offset, squares = _offset(f, curvature, g, stride)
    rise = linear(f, "rise", Rows(f("Mul", "g_offset", g.tensor, offset), g.names), {"rise": {"gx": 0.5 / stride, "gy": 0.5 / stride}})
    amplitude = f("Exp", "amplitude", f("Add", "log_amplitude", c.tensor, rise.tensor))
    score = f("Min", "score", amplitude, f.constant("full_score", 1))
    spread = _gradient_covariance(f, place, all_rows, offset, k0 / stride)
    covariance = f("Mul", "covariance_of_fit", _covariance(f, squares, spread, stride), noise)
    return Found(offset, score, covariance, checks.tensor)


def _centred(f: Fragment, window: Rows) -> Rows:
    """Sums about the weighted means, c{ij} and h{i}: s - s0i s0j / s00. So are the others: ``left`` is what c alone leaves of the sum of
    squares, the means and the step of c have another sign, and what is only passed on loses 0."""
    less = {entry("c", i, j): (entry("s", i, j), f"s0{i}", f"s0{j}") for i in OTHERS for j in OTHERS if i <= j}
    less |= {f"h{i}": (f"g{i}", f"s0{i}", "g0") for i in OTHERS} | {"left": ("rss", "g0", "g0")}
    less |= {f"-mean{i}": (ZERO, f"s0{i}", ONE) for i in OTHERS} | {"-c": (ZERO, "g0", ONE)}
    less |= {n: (n, ZERO, ZERO) for n in ("s00", "freedom", "peak", *(f"first{i}" for i in range(6)), ONE)}
    whole, *factors = (pick(f, f"centred/{i}", window, names) for i, names in enumerate(zip(*less.values(), strict=True)))
    product = f("Mul", "mass_products", *factors)
    means = f("Div", "mean_products", product, pick(f, "mass", window, ["s00"]))
    return Rows(f("Sub", "centred", whole, means), tuple(less))


def _place(f: Fragment, centred: Rows, tiny: float, huge: float) -> tuple[Rows, Rows]:
    """Of the block G of (gx, gy): the rows X = G^-1 B, u = G^-1 h, G^-1 and 1; and the checks [N, 5, L]."""
    adjugate = {(1, 1): symbol("c22"), (1, 2): symbol("c12", -1.0), (2, 1): symbol("c12", -1.0), (2, 2): symbol("c11")}
    columns = {**{str(q): (entry("c", 1, q), entry("c", 2, q)) for q in SHAPE}, "u": ("h1", "h2")}
    numerators = {
        f"x{i}{q}" if q != "u" else f"u{i}": plus(*(times(adjugate[i, k], symbol(column[k - 1])) for k in PLACE))
        for i in PLACE
        for q, column in columns.items()
    }
    numerators |= {f"inverse{i}{j}": times(adjugate[i, j], symbol(ONE)) for i, j in ((1, 1), (1, 2), (2, 2))}
    numerators[ONE] = {("c11", "c22"): 1.0, ("c12", "c12"): -1.0}
    # What must be positive: the logarithm is no finite number where it is not.
    positive = {
        "regular": {("c11", "c22"): 1 - MIN_DETERMINANT, ("c12", "c12"): -1.0, ("s00", "s00"): -MIN_SPREAD},
        "enough": {("freedom", ONE): 1.0, (ONE, ONE): UNKNOWNS - MIN_ANCHORS},
        "over_tiny": {("peak", ONE): 1.0, (ONE, ONE): -tiny},
        "below_huge": {("peak", ONE): -1.0, (ONE, ONE): huge},
        "peak": {("peak", ONE): 1.0},
    }
    p = products(f, "place_and_check_parts", (centred, centred), numerators, positive)
    checks = Rows(f("Log", "checks", sums(f, "positive", p, positive).tensor), tuple(f"log_{n}" for n in positive))
    return quotients(f, "place", p, numerators), checks


def _schur(f: Fragment, centred: Rows, place: Rows, prior: float) -> Rows:
    """The equations of the step of the shape, A d = b with the pull of the prior, and the step u0 - x0 . d of c. ``left`` is what c and the
    place leave of the sum of squares; the first fit, 1 and 0 are passed on."""
    rows: dict[str, Polynomial] = {"u0": plus({("-c", ONE): -1.0}, {(f"-mean{i}", f"u{i}"): 1.0 for i in PLACE})}
    for p, r in ridge(prior):
        rows[f"x0{p}"] = plus({(f"-mean{p}", ONE): -1.0}, {(f"-mean{i}", f"x{i}{p}"): 1.0 for i in PLACE})
        for q in range(p, 6):
            rows[entry("a", p, q)] = plus({(entry("c", p, q), ONE): 1.0}, {(entry("c", i, p), f"x{i}{q}"): -1.0 for i in PLACE})
        pulled = {(f"h{p}", ONE): 1.0, (f"first{p}", ONE): -r}
        rows[f"b{p}"] = plus(pulled, {(entry("c", i, p), f"u{i}"): -1.0 for i in PLACE})
    rows["left"] = plus({("left", ONE): 1.0}, {(f"h{i}", f"u{i}"): -1.0 for i in PLACE})
    rows |= {name: {(name, ONE): 1.0} for name in (*(f"first{i}" for i in range(6)), ONE)}
    rows[ZERO] = {}
    return sums(f, "schur", products(f, "schur_parts", (centred, place), rows), rows)


def _determinant() -> Polynomial:
    """Of A."""
    return plus(*(times(symbol(entry("a", 3, j)), minors()[3, j]) for j in SHAPE))


def _shape_steps() -> dict[str, Polynomial]:
    """Numerators of d = A^-1 b."""
    return {f"d{i}": plus(*(times(minors()[i, j], symbol(f"b{j}")) for j in SHAPE)) for i in SHAPE}


def _inverse() -> dict[str, Polynomial]:
    """Numerators of A^-1."""
    return {entry("v", i, j): times(minors()[i, j], symbol(ONE)) for i in SHAPE for j in SHAPE if i <= j}


def _shape(f: Fragment, name: str, equations: Rows, numerators: dict[str, Polynomial]) -> Rows:
    """The named numbers over det A, and with them 1 + d3, the kappa of a first fit that is the target, and 1."""
    det = _determinant()
    numerators = {**numerators, "kappa": plus(numerators["d3"], det), ONE: det}
    return quotients(f, name, products(f, f"{name}_parts", (equations,) * 3, numerators), numerators)


def _held(f: Fragment, window: Rows, schur: Rows, prior: float) -> tuple[str, Rows]:
    """The noise [N, 1, L] that a fit held by the prior alone leaves, and the equations of the shape with the ridge by that noise."""
    inverse = _inverse()
    variances = {"vk": times(inverse["v33"], {(): SHRINK}), "vs": times(plus(inverse["v44"], inverse["v55"]), {(): SHRINK})}
    first = _shape(f, "prior_shape", schur, {**_shape_steps(), **variances})
    both = joined(f, "prior_shape_and_equations", first, schur)
    step, start = {p: symbol(f"d{p}") for p in SHAPE}, {p: symbol(f"first{p}") for p in SHAPE}
    gained = {p: plus(times(step[p], step[p]), times(step[p], start[p], {(): 2.0})) for p in SHAPE}  # of the square of the shape
    square = {p: plus(gained[p], times(start[p], start[p])) for p in SHAPE}
    squares = {"kk": square[3], "ss": plus(square[4], square[5])}
    left = {("left", ONE): 1.0}
    for p, r in ridge(prior):
        left = plus(left, times(step[p], symbol(f"b{p}"), {(): -1.0}), times(gained[p], {(): -r}))
    p = products(f, "left_over_parts", (both, both), squares, {"left": left})
    left_over = f("Max", "left_over", sums(f, "left_over_signed", p, {"left": left}).tensor, f.constant("nothing", 0))
    freedom = f("Max", "freedom", pick(f, "freedom_row", window, ["freedom"]), f.constant("least_freedom", 1))
    noise = f("Div", "noise", left_over, freedom)

    variance = f("Mul", "variances", pick(f, "variances_over_noise", first, variances), noise)
    excess = f("Sub", "excess", sums(f, "shape_squared", p, squares).tensor, variance)
    pull = f("Div", "pull", noise, f("Max", "tau_squared", excess, f.constant("min_shape", MIN_SHAPE)))
    # It stands on the diagonal of A, and pulls at the first fit. alpha and beta, two numbers, share one tau^2.
    more: dict[str, Polynomial] = {n: {} for n in schur.names}
    for p, kind, factor in zip(SHAPE, ("kk", "ss", "ss"), (1.0, 2.0, 2.0), strict=True):
        more[entry("a", p, p)], more[f"b{p}"] = {(kind, ONE): factor}, {(kind, f"first{p}"): -factor}
    parts = products(f, "pull_parts", (Rows(pull, tuple(squares)), schur), more)
    return noise, Rows(f("Add", "held_equations", schur.tensor, sums(f, "pulls", parts, more).tensor), schur.names)


def _inverse_curvature(f: Fragment, step: Rows, schur: Rows, k0: float) -> Rows:
    """K^-1 after the step, heatmap pixels squared."""
    first = {"d3": "first3", "kappa": "first3", "d4": "first4", "d5": "first5"}
    start = pick(f, "shape_before", schur, [first.get(n, ZERO) for n in step.names])
    shape = f("Add", "shape_after", step.tensor, start)
    # Only kappa has bounds; the other rows get those of all numbers.
    most = float(np.finfo(np.float32).max)
    low = [[1 / KAPPA_RANGE if n == "kappa" else -most] for n in step.names]
    high = [[KAPPA_RANGE if n == "kappa" else most] for n in step.names]
    bounded = f("Min", "shape_below", f("Max", "shape_above", shape, f.constant("shape_low", low)), f.constant("shape_high", high))
    bounds = Rows(bounded, step.names)
    squared = Rows(f("Mul", "shape_squares", bounded, bounded), step.names)
    free = linear(f, "det_K_free", squared, {"det": {"kappa": k0, "d4": -k0, "d5": -k0}})
    least = linear(f, "det_K_least", squared, {"det": {"kappa": MIN_ROUNDNESS * k0}})
    adjugate = linear(f, "K_adjugate", bounds, {"kxx": {"kappa": 1, "d4": -1}, "kxy": {"d5": -1}, "kyy": {"kappa": 1, "d4": 1}})
    return Rows(f("Div", "K_inverse", adjugate.tensor, f("Max", "det_K", free.tensor, least.tensor)), adjugate.names)


def _offset(f: Fragment, K: Rows, g: Rows, stride: float) -> tuple[str, Products]:
    """The offset [N, 2, L] in crop pixels, and the products of the entries of K^-1."""
    offset = {"x": {("kxx", "gx"): stride, ("kxy", "gy"): stride}, "y": {("kxy", "gx"): stride, ("kyy", "gy"): stride}}
    squares = {"all": {(m, n): 1.0 for i, m in enumerate(K.names) for n in K.names[i:]}}
    both = joined(f, "K_and_g", K, g)
    p = products(f, "offset_parts", (both, both), offset, squares)
    reach = REACH * stride
    return f("Clip", "offset", sums(f, "offset_free", p, offset).tensor, f.constant("reach_back", -reach), f.constant("reach", reach)), p


def _gradient_covariance(f: Fragment, place: Rows, rows: Rows, offset: str, k0: float) -> Rows:
    """G^-1 + Y A^-1 Y^T, the covariance of g - d(K offset) / d shape . shape over the noise; ``k0`` for an offset in crop pixels."""
    names = [f"x{i}{q}" for i in (1, 2) for q in SHAPE] + [ONE]
    turned = {"x13": {"x": k0}, "x14": {"x": k0}, "x15": {"y": k0}, "x23": {"y": k0}, "x24": {"y": -k0}, "x25": {"x": k0}, ONE: {}}
    turn = linear(f, "turned", Rows(offset, ("x", "y")), {n: turned[n] for n in names})
    Y = Rows(f("Add", "Y", pick(f, "X", place, names), turn.tensor), tuple(names))
    spread = {
        f"c{axes}": plus(
            {(ONE, ONE, f"inverse{i}{j}"): 1.0},
            *({(*sorted((f"x{i}{p}", f"x{j}{q}")), entry("v", p, q)): 1.0} for p in SHAPE for q in SHAPE),
        )
        for axes, i, j in (("xx", 1, 1), ("xy", 1, 2), ("yy", 2, 2))
    }
    return sums(f, "gradient_covariance", products(f, "spread_parts", (Y, Y, rows), spread), spread)


def _covariance(f: Fragment, squares: Products, spread: Rows, stride: float) -> str:
    """K^-1 C K^-1 [N, 3, L], crop pixels squared over the noise."""
    K = (("kxx", "kxy"), ("kxy", "kyy"))
    C = (("cxx", "cxy"), ("cxy", "cyy"))
    out = {
        str(k): plus(*({("*".join(sorted((K[i][p], K[q][j]))), C[p][q]): stride**2} for p in (0, 1) for q in (0, 1)))
        for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 1)))
    }
    factors = Rows(squares.tensor, tuple("*".join(key) for key in squares.keys))
    return sums(f, "covariance_over_noise", products(f, "covariance_parts", (factors, spread), out), out).tensor
