"""The solver of ``keyposs_trt.decode.multilateration`` as standard ONNX operators.

Valid for opset 17 and later (operators whose signature changed since, such as ReduceMax, are not used). N is free; every
tensor is float32 whatever the maps are. Three choices follow from where the graph must run:

- maps are sanitised before ArgMax and nothing behind it sees NaN, since ArgMax, Max and Clip treat NaN differently from
  runtime to runtime;
- the map is padded by the radius with a value no anchor can have, so the window around the argmax is one GatherElements
  with constant offsets, never outside the map, and what lies beyond the border is dropped with the unusable anchors;
- sums of products are Mul and ReduceSum, not MatMul, which TensorRT may compute in TF32 (10 bits of mantissa).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.decode.decoded import grid_shift
from keyposs_trt.decode.multilateration import (
    FLOOR,
    HUGE,
    KAPPA_RANGE,
    MIN_ANCHORS,
    MIN_DETERMINANT,
    PRIOR,
    RADIUS,
    TINY,
    check_parameters,
    window_offsets,
)

if TYPE_CHECKING:
    import onnx
    from numpy.typing import ArrayLike

PREFIX = "decode/"
MIN_OPSET = 17
OUTPUTS = ("landmarks", "scores", "covariance")


@dataclass
class Fragment:
    """Nodes and constants under construction; every name they make starts with ``prefix``."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: ArrayLike, dtype: type = np.float32) -> str:
        """Adds an initializer and returns its name."""
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.array(value, dtype), self.prefix + name))
        return self.prefix + name

    def many(self, op: str, name: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
        """Adds a node and returns the names of its outputs."""
        from onnx import helper

        names = [f"{self.prefix}{name}" if outputs == 1 else f"{self.prefix}{name}/{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, self.prefix + name, **attributes))
        return names

    def __call__(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        return self.many(op, name, list(inputs), 1, **attributes)[0]


def wls_fragment(
    heatmaps: str,
    *,
    size: int,
    stride: float,
    grid: str,
    sigma: float = 2.0,
    radius: int = RADIUS,
    prior: float = PRIOR,
    floor: float = FLOOR,
    prefix: str = PREFIX,
) -> Fragment:
    """Nodes from ``heatmaps`` [N, L, size, size], float16 or float32, to ``landmarks``, ``scores`` and ``covariance``.

    Args:
        heatmaps: name of the tensor of maps.
        size: side of the maps in heatmap pixels.
        stride: crop pixels per heatmap pixel.
        grid: ``corner`` or ``half_pixel``.
        sigma, radius, prior, floor: see ``multilateration.wls``.
        prefix: what the names of nodes, constants and inner tensors start with.

    Returns:
        The fragment; its last three nodes write the tensors ``landmarks`` [N, L, 2] and ``covariance`` [N, L, 3] in crop
        pixels and ``scores`` [N, L].

    Raises:
        UsageError: a parameter makes no sense.
    """
    p = check_parameters(sigma=sigma, radius=radius, prior=prior, floor=floor)
    f = Fragment(prefix)
    cell, window = _window(f, heatmaps, size, p["radius"], stride, grid)
    offset, score, covariance = _solve(f, window, **p)

    step = f("Mul", "step", f("Squeeze", "offset_xy", offset, f.constant("last", [-1], np.int64)), f.constant("stride", stride))
    area = f("Mul", "area", covariance, f.constant("stride_squared", stride**2))
    f("Add", "landmarks", cell, step)
    f("Squeeze", "scores", score, f.constant("last_two", [-2, -1], np.int64))
    f("Squeeze", "covariance", area, prefix + "last")
    for node, name in zip(f.nodes[-3:], OUTPUTS, strict=True):
        node.output[0] = name
    return f


def _window(f: Fragment, heatmaps: str, size: int, radius: int, stride: float, grid: str) -> tuple[str, str]:
    """Crop position of the argmax [N, L, 2] and values of the anchors around it [N, L, 1, K]."""
    side = size + 2 * radius
    maps = f("Cast", "float", heatmaps, to=1)
    finite = f("Less", "finite", f("Abs", "abs", maps), f.constant("huge", HUGE))
    clean = f("Where", "clean", finite, maps, f.constant("unusable", -HUGE))
    pads = f.constant("pads", [0, 0, radius, radius] * 2, np.int64)
    # Lower than an unusable anchor, so that the argmax of a map without measurements still lies inside the map.
    padded = f("Pad", "padded", clean, pads, f.constant("outside", -2 * HUGE))
    flat = f("Reshape", "flat", padded, f.constant("flat_shape", [0, 0, side * side], np.int64))
    index = f("ArgMax", "argmax", flat, axis=2, keepdims=0)

    position = np.stack([np.tile(np.arange(side), side), np.repeat(np.arange(side), side)], -1) - radius
    cell = f("Gather", "cell", f.constant("cells", position * stride + grid_shift(stride, grid)), index, axis=0)

    d = window_offsets(radius)
    column = f("Unsqueeze", "argmax_column", index, f.constant("two", [2], np.int64))
    anchors = f("Add", "anchors", column, f.constant("anchor_offsets", d[:, 1] * side + d[:, 0], np.int64))
    values = f("GatherElements", "values", flat, anchors, axis=2)
    return cell, f("Unsqueeze", "window", values, f.prefix + "two")


def _solve(f: Fragment, window: str, *, sigma: float, radius: int, prior: float, floor: float) -> tuple[str, str, str]:
    """Offset [N, L, 2, 1] from the argmax, score [N, L, 1, 1], covariance [N, L, 3, 1]; symbols as in ``multilateration``.

    Shapes in the comments leave out N, L.
    """
    d = window_offsets(radius).astype(np.float32).T
    rho = (d**2).sum(0, keepdims=True) / 2
    last = f.constant("axis_last", [-1], np.int64)
    rows = f.constant("axis_rows", [-2], np.int64)
    tiny = f.constant("tiny", TINY)
    fl = f.constant("floor", floor)
    half = f.constant("half", 0.5)

    # Anchors, their log values y and weights p, all [1, K].
    peak = f("Gather", "peak", window, f.constant("centre", [d.shape[1] // 2], np.int64), axis=3)
    base = f("Max", "base", peak, tiny)
    relative = f("Div", "relative", window, base)
    usable = f("Cast", "usable", f("Greater", "above_floor", relative, fl), to=1)
    n = f("ReduceSum", "n", usable, last)
    kept = f("Mul", "kept", relative, usable)
    w = f("Mul", "w", kept, kept)
    p = f("Div", "p", w, f("Max", "w_positive", f("ReduceSum", "w_sum", w, last), tiny))
    y = f("Log", "y", f("Max", "relative_above_floor", relative, fl))

    # S [4, 4]: centred weighted second moments of the features dx, dy, rho, y.
    features = f.constant("features", np.concatenate([d, rho, 0 * rho]))
    feature = f("Add", "feature", f("Mul", "y_row", y, f.constant("y_only", [[0], [0], [0], [1]])), features)
    mean = f("ReduceSum", "feature_mean", f("Mul", "p_feature", p, feature), last)
    centred = f("Sub", "centred", feature, mean)
    left = f("Unsqueeze", "left", f("Mul", "p_centred", p, centred), f.constant("axis_3", [3], np.int64))
    right = f("Unsqueeze", "right", centred, f.constant("axis_2", [2], np.int64))
    S = f("ReduceSum", "moments", f("Mul", "products", left, right), last, keepdims=0)
    flat = f("Reshape", "moments_flat", S, f.constant("moments_shape", [0, 0, 16], np.int64))

    # Columns of the 2x2 system: U = G^-1 <d rho>, V = G^-1 <d y>.
    xx, xy, xr, xt, yy, yr, yt, rr, rt = 0, 1, 2, 3, 5, 6, 7, 10, 11  # of S, flat
    rows_of = {
        "G_cross": [[yy, yy], [xx, xx]],
        "B": [[xr, xt], [yr, yt]],
        "B_cross": [[yr, yt], [xr, xt]],
        "b": [[xr, xr], [yr, yr]],
        "Gxy": [[xy, xy]],
        "R": [[rr, rt]],
        "RR": [[rr, rr]],
        "D1": [[xx, xy]],
        "D2": [[yy, xy]],
    }
    picked = f("Gather", "picked", flat, f.constant("table", np.concatenate(list(rows_of.values())), np.int64), axis=2)
    sizes = f.constant("table_rows", [len(r) for r in rows_of.values()], np.int64)
    G_cross, B, B_cross, b, Gxy, R, RR, D1, D2 = f.many("Split", "rows", [picked, sizes], len(rows_of), axis=2)
    each = f.constant("each", [1, 1], np.int64)
    Gxx_Gyy, Gxy_Gxy = f.many("Split", "determinant_terms", [f("Mul", "determinant_products", D1, D2), each], 2, axis=3)
    determinant = f("Sub", "determinant", Gxx_Gyy, Gxy_Gxy)
    apart = f("Greater", "apart", determinant, f("Mul", "determinant_least", Gxx_Gyy, f.constant("min_determinant", MIN_DETERMINANT)))
    solved = f("And", "solved", apart, f("Greater", "enough", n, f.constant("too_few", MIN_ANCHORS - 0.5)))
    det = f("Max", "determinant_positive", determinant, f.constant("tiny_determinant", 1e-20))
    numerators = f("Sub", "uv_numerators", f("Mul", "uv_straight", G_cross, B), f("Mul", "uv_cross", Gxy, B_cross))
    UV = f("Div", "uv", numerators, det)
    U, V = f.many("Split", "u_v", [UV, each], 2, axis=3)

    # kappa [1, 1] = 1 / sigma^2 of this map, from what U and V leave unexplained and the prior.
    left_over = f("Sub", "left_over", R, f("ReduceSum", "explained", f("Mul", "b_uv", b, UV), rows))
    signed = f("Mul", "left_over_signed", left_over, f.constant("signs", [[1, -1]]))
    ridge = f("Mul", "ridge", RR, f.constant("priors", [[prior, prior / sigma**2]]))
    denominator, numerator = f.many("Split", "fraction", [f("Add", "fraction_row", signed, ridge), each], 2, axis=3)
    den = f("Max", "denominator", denominator, f.constant("tiny_denominator", 1e-12))
    bounds = f.constant("kappa_min", 1 / (KAPPA_RANGE * sigma**2)), f.constant("kappa_max", KAPPA_RANGE / sigma**2)
    kappa = f("Clip", "kappa", f("Div", "kappa_free", numerator, den), *bounds)
    shift = f("Div", "shift", V, kappa)
    offset = f("Clip", "offset_in_window", f("Add", "offset_free", U, shift), f.constant("low", -radius), f.constant("high", radius))

    # Amplitude and residuals at that offset.
    away = f("Sub", "away", f.constant("anchor_xy", d), offset)
    square = f("ReduceSum", "square", f("Mul", "away_squared", away, away), rows)
    log_amplitude = f("Add", "log_amplitude", y, f("Mul", "range", square, f("Mul", "kappa_half", kappa, half)))
    fitted = f("ReduceSum", "fitted", f("Mul", "p_log_amplitude", p, log_amplitude), last)
    residual = f("Sub", "residual", log_amplitude, fitted)
    p_squares = f("Mul", "p_residual_squared", p, f("Mul", "residual_squared", residual, residual))
    zero, one = f.constant("zero", 0), f.constant("one", 1)
    amplitude = f("Exp", "amplitude", f("Min", "log_score", f("Add", "log_scale", fitted, f("Log", "log_base", base)), zero))
    score = f("Where", "score", solved, amplitude, f("Clip", "peak_score", peak, zero, one))

    # Covariance [3, 1]: (G^-1 + shift shift^T / den) * <residual^2> / (kappa^2 (n - 4)).
    freedom = f("Max", "freedom", f("Sub", "n_free", n, f.constant("unknowns", MIN_ANCHORS)), one)
    scale = f("Mul", "precision", f("Mul", "kappa_squared", kappa, kappa), freedom)
    noise = f("Div", "noise", f("ReduceSum", "residual_mean", p_squares, last), scale)
    adjugate = f("Gather", "cofactors", flat, f.constant("cofactor_index", [[yy], [xy], [xx]], np.int64), axis=2)
    inverse = f("Div", "inverse", f("Mul", "adjugate", adjugate, f.constant("cofactor_signs", [[1], [-1], [1]])), det)
    first = f("Gather", "shift_first", shift, f.constant("xxy", [0, 0, 1], np.int64), axis=2)
    second = f("Gather", "shift_second", shift, f.constant("xyy", [0, 1, 1], np.int64), axis=2)
    outer = f("Div", "shift_outer", f("Mul", "shift_products", first, second), den)
    fit = f("Mul", "fit_covariance", f("Add", "geometry", inverse, outer), noise)
    unknown = f.constant("unknown", [[radius**2], [0], [radius**2]])
    return f("Where", "offset", solved, offset, zero), score, f("Where", "heatmap_covariance", solved, fit, unknown)
