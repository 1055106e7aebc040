"""The solver of ``keyposs_trt.decode.multilateration`` as standard ONNX operators.

Valid for opset 17 and later; the one operator whose signature changed since, ReduceMax, is written for the opset asked for. N is free;
every tensor is float32 whatever the maps are. What follows from where the graph must run:

- a map is read once: the maximum of each row gives the row of the peak, that row gives its column, and the window is one
  GatherElements. An argmax over whole maps takes a runtime several times as long; small maps, where it does not, have tables by cell.
- a node costs a runtime a microsecond or a launch however little it does, so there are few, and what can be a table is one.
- what lies beyond the border is read from the peak instead and counted as an outlier: no read outside, no padded copy.
- a map with a NaN in its window gives the argmax where Max and Clip pass it on, as in ONNX Runtime; one whose argmax is a NaN, an
  infinity or beyond 1e20 also gets score 0. The other implementations look at the remaining values; here every value would have to be
  tested, for maps that only a broken network emits.

The small systems of the fit are in ``onnx_algebra``; from the sums over windows on, tensors are [N, k, L].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keyposs_trt.decode.decoded import grid_shift
from keyposs_trt.decode.fit import REACH, UNKNOWNS
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
    window_offsets,
)
from keyposs_trt.decode.onnx_algebra import ridge, solve, sum_names
from keyposs_trt.decode.onnx_rows import Rows, pick

if TYPE_CHECKING:
    import onnx
    from numpy.typing import ArrayLike, NDArray

PREFIX = "decode/"
MIN_OPSET = 17
OUTPUTS = ("landmarks", "scores", "covariance")
BEYOND = 3.0  # over the peak: no model comes near, so the weight is 0
# An anchor of this value and without features puts constants into sums over the window, as its weight is 1 (it is within OUTLIER of 1), and
# by its logarithm into the first fit: a MatMul with a constant in it needs no Add.
CONSTANT = 1.125


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


class Window(NamedTuple):
    """Names of tensors.

    Attributes:
        place: [N, L, 2] the argmax in crop pixels.
        peak: [N, L, 1] its value.
        relative: [N, L, K + 1] anchors over the peak, ``LOWEST`` at least; those beyond the border are ``BEYOND``. Behind the anchors of
            the first fit stands ``CONSTANT``.
        theta_index: [N, L, 7] which numbers of the first fit for all borders are those for this one, and the 1 behind them.
    """

    place: str
    peak: str
    relative: str
    theta_index: str


def wls_fragment(
    heatmaps: str,
    *,
    size: int,
    stride: float,
    grid: str,
    sigma: float = 2.0,
    radius: int = RADIUS,
    prior: float = PRIOR,
    prefix: str = PREFIX,
    opset: int = MIN_OPSET,
) -> Fragment:
    """Nodes from ``heatmaps`` [N, L, size, size], float16 or float32, to ``landmarks``, ``scores`` and ``covariance``.

    Args:
        heatmaps: name of the tensor of maps.
        size: side of the maps in heatmap pixels.
        stride: crop pixels per heatmap pixel.
        grid: ``corner`` or ``half_pixel``.
        sigma, radius, prior: see ``multilateration.wls``.
        prefix: what the names of nodes, constants and inner tensors start with.
        opset: of the graph the nodes are for, 17 or later.

    Returns:
        The fragment; its nodes write the tensors ``landmarks`` [N, L, 2] and ``covariance`` [N, L, 3] in crop pixels and ``scores``
        [N, L].

    Raises:
        UsageError: a parameter makes no sense.
    """
    p = check_parameters(sigma=sigma, radius=radius, prior=prior)
    f = Fragment(prefix)
    window = _window(f, heatmaps, size, p["radius"], stride, grid, opset)
    sums = _sums(f, window, _first(f, window, size, **p), **p)
    found = solve(f, sums, sigma=p["sigma"], prior=p["prior"], stride=stride, tiny=TINY, huge=HUGE)

    # Where a check or any other number is not finite, and only there, the sum of all is not. A comparison asks for that, false for a NaN:
    # Min, Max and Clip of some runtimes lose one on the way, Less does not.
    fit = f("Concat", "fit_and_checks", found.offset, found.score, found.covariance, found.checks, axis=1)
    total = f("MatMul", "fit_sum", f.constant("eleven", np.ones((1, 11))), fit)
    huge = f.constant("huge", HUGE)
    solved = f("Less", "solved", f("Abs", "fit_size", total), huge)
    peak = pick(f, "peak_of_map", sums, ["peak"])
    readable = f("Where", "readable_peak", f("Less", "readable", peak, huge), peak, f.constant("no_score", 0))
    # The peak in [0, 1] as score; the other bounds leave one number.
    low = np.zeros((11, 1))
    low[[3, 5]] = (REACH * stride) ** 2
    above = f("Max", "fallback_above", readable, f.constant("fallback_low", low))
    fallback = f("Min", "fallback", above, f.constant("fallback_high", low + np.eye(11)[:, 2:3]))
    result = f("Transpose", "result", f("Where", "fit_or_fallback", solved, fit, fallback), perm=[0, 2, 1])
    offset, score, *_ = f.many("Split", "result_parts", [result, f.constant("result_sizes", [2, 1, 3, 5], np.int64)], 4, axis=2)
    f("Add", "landmarks", window.place, offset)
    f("Squeeze", "scores", score, f.constant("last", [-1], np.int64))
    split, *last = f.nodes[-3:]
    for node, number, name in zip((*last, split), (0, 0, 2), OUTPUTS, strict=True):
        node.output[number] = name
    return f


def _window(f: Fragment, heatmaps: str, size: int, radius: int, stride: float, grid: str, opset: int) -> Window:
    """The peak of each map and the anchors around it."""
    maps = f("Cast", "float", heatmaps, to=1)
    flat = f("Reshape", "flat", maps, f.constant("flat_shape", [0, 0, size * size], np.int64))
    steps, inside, of_row, of_column = anchor_steps(size, size, radius)
    of_cell = (of_row[:, None] + of_column).ravel()
    # What stands for an anchor beyond the border, and for the constant, is read from the peak.
    count = first_anchors(radius)
    steps = np.insert(steps, count, 0, axis=1)
    least = np.insert(np.where(inside, LOWEST, BEYOND), count, CONSTANT, axis=1)
    fit_of_border = _first_fits(size, 2.0, radius, 1.0)[1]
    if len(steps) == size**2:  # small maps: the border cuts the window of each cell in a way of its own
        steps, least, fit_of_border = steps[of_cell], least[of_cell], fit_of_border[of_cell]
        cell = border = f("ArgMax", "cell", flat, axis=2, keepdims=0)
        index = f("Gather", "anchor_index", f.constant("anchors_of_cells", steps + np.arange(size**2)[:, None], np.int32), cell, axis=0)
    else:
        start = _argmax_by_rows(f, maps, flat, size, opset)
        cell = f("Squeeze", "cell", start, f.constant("axis_2", [2], np.int64))
        border = f("Gather", "border", f.constant("borders_of_cells", of_cell, np.int32), cell, axis=0)
        index = f("Add", "anchor_index", start, f("Gather", "anchor_steps", f.constant("steps", steps, np.int32), border, axis=0))
    anchors = f("GatherElements", "anchors", flat, index, axis=2)
    middle = int(np.flatnonzero((window_offsets(radius) == 0).all(1))[0])
    peak = f("Gather", "peak", anchors, f.constant("middle", [middle], np.int32), axis=2)
    bounds = f("Gather", "least", f.constant("least_of_borders", least), border, axis=0)
    relative = f("Max", "relative", f("Div", "over_peak", anchors, peak), bounds)
    numbers = np.concatenate(
        [fit_of_border[:, None] * 6 + np.arange(6), np.full((len(fit_of_border), 1), 6 * (fit_of_border.max() + 1))], 1
    )
    theta_index = f("Gather", "theta_index", f.constant("theta_indices", numbers, np.int32), border, axis=0)
    row, column = np.divmod(np.arange(size * size), size)
    places = f.constant("places", np.stack([column, row], 1) * stride + grid_shift(stride, grid))
    return Window(f("Gather", "argmax_place", places, cell, axis=0), peak, relative, theta_index)


def _argmax_by_rows(f: Fragment, maps: str, flat: str, size: int, opset: int) -> str:
    """[N, L, 1] int32 the cell of the first of the highest values of each map, which are read but once."""
    if opset < 18:
        highest = f("ReduceMax", "row_maxima", maps, axes=[3], keepdims=0)
    else:
        highest = f("ReduceMax", "row_maxima", maps, f.constant("columns", [3], np.int64), keepdims=0)
    row = f("ArgMax", "row", highest, axis=2, keepdims=0)
    cells = f("Gather", "row_cells", f.constant("cells", np.arange(size**2).reshape(size, size), np.int32), row, axis=0)
    column = f("ArgMax", "column", f("GatherElements", "row_values", flat, cells, axis=2), axis=2, keepdims=1)
    return f("GatherElements", "peak_cell", cells, column, axis=2)


def _first_fits(size: int, sigma: float, radius: int, prior: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[25, fits * 6] the different first fits side by side, and [ways] which one belongs to a way the border cuts the window."""
    ways, fit_of_way = np.unique(anchor_steps(size, size, radius)[1][:, : first_anchors(radius)], axis=0, return_inverse=True)
    fit_of_way = fit_of_way.ravel()
    table = first_fit(size, size, sigma, radius, prior)[[int(np.argmax(fit_of_way == i)) for i in range(len(ways))]]
    return np.concatenate(list(table), 1), fit_of_way


def _first(f: Fragment, window: Window, size: int, *, sigma: float, radius: int, prior: float) -> str:
    """The first fit, less theta of the target, and 1 [N, L, 7]."""
    count = first_anchors(radius)
    bounds = [f.constant(name, [value], np.int64) for name, value in (("first", 0), ("inner_size", count + 1))]
    inner = f("Slice", "inner", window.relative, *bounds, f.constant("window_axis", [2], np.int64))
    log_h = f("Log", "inner_log", f("Max", "inner_floor", inner, f.constant("floor", FLOOR)))
    fits = _first_fits(size, sigma, radius, prior)[0]
    target = features(radius, sigma)[:count, 3] @ fits / np.log(CONSTANT)
    one = np.insert(np.zeros((count, 1)), count, 1 / np.log(CONSTANT), axis=0)
    every = f("MatMul", "first_fits", log_h, f.constant("first_fit", np.hstack([np.vstack([fits, -target]), one])))
    return f("GatherElements", "first_step", every, window.theta_index, axis=2)


def _sums(f: Fragment, window: Window, step: str, *, sigma: float, radius: int, prior: float) -> Rows:
    """The rows of ``sum_names`` at the first fit, ``step`` from the target."""
    inlier, outlier = OUTLIER
    count = first_anchors(radius)
    columns = np.insert(features(radius, sigma), count, 0, axis=0)  # so that m = 1 for the constant, whose weight is 1
    log_m = f("MatMul", "log_m", step, f.constant("features", np.hstack([columns, columns[:, 3:4]]).T))
    m = f("Exp", "m", f("Min", "log_m_bounded", log_m, f.constant("max_log", MAX_LOG)))
    residual = f("Sub", "residual", window.relative, m)
    slope = 1 / (outlier - inlier)
    weight = f("HardSigmoid", "weight", residual, alpha=-slope, beta=slope * outlier)
    weighted, weighted_m = f("Mul", "weighted_residual", weight, residual), f("Mul", "weighted_m", weight, m)

    def constant(value: float) -> NDArray[np.float64]:
        return np.where(np.arange(len(columns)) == count, value, 0)[:, None]

    i, j = np.triu_indices(6)
    ridges = np.zeros((1, len(i)))
    for p, strength in ridge(prior):
        ridges[0, (i == p) & (j == p)] = strength
    squares = np.hstack([columns[:, i] * columns[:, j] + constant(1) * ridges, constant(0)])
    anchors = 1 - constant(1)
    sums = (
        ("squares", f("Mul", "weighted_m_m", weighted_m, m), squares),
        ("gradient", f("Mul", "weighted_residual_m", weighted, m), columns),
        ("rss", f("Mul", "weighted_squares", weighted, residual), anchors),
        ("n", weight, anchors - constant(UNKNOWNS)),
    )
    together = [f("MatMul", name, values, f.constant(f"{name}/columns", matrix)) for name, values, matrix in sums]
    rows = f("Transpose", "sums", f("Concat", "sums_of_maps", *together, step, window.peak, axis=2), perm=[0, 2, 1])
    return Rows(rows, sum_names())
