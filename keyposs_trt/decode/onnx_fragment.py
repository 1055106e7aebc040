"""The solver of ``keyposs_trt.decode.multilateration`` as standard ONNX operators.

Valid for opset 17 and later; the one operator whose signature changed since, ReduceMax, is written for the opset asked for. N is free;
every tensor is float32 whatever the maps are. What follows from where the graph must run:

- a map is read once: the maximum of each row gives the row of the peak, that row gives its column, and the window is one
  GatherElements. An argmax over whole maps takes a runtime several times as long.
- what lies beyond the border is read from an anchor of the map instead and counted as an outlier: no read outside, no padded copy.
- a map with a NaN in its window gives the argmax where Max and Clip pass it on, as in ONNX Runtime; one whose argmax is a NaN, an
  infinity or beyond 1e20 also gets score 0. The other implementations look at the remaining values; here every value would have to be
  tested, for maps that only a broken network emits.

The small systems of the fit are in ``onnx_algebra``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keyposs_trt.decode.decoded import grid_shift
from keyposs_trt.decode.fit import REACH
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
)
from keyposs_trt.decode.onnx_algebra import Moments, moment_columns, solve

if TYPE_CHECKING:
    import onnx
    from numpy.typing import ArrayLike, NDArray

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


class Window(NamedTuple):
    """Names of tensors.

    Attributes:
        cell: [N, L, 2] the argmax in crop pixels.
        peak: [N, L, 1] its value.
        relative: [N, L, K] anchors over the peak, ``LOWEST`` at least; those beyond the border lie far above it.
        theta_index: [N, L, 6] which numbers of the first fit for all borders are those for this one.
    """

    cell: str
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
    step, theta = _first(f, window, size, **p)
    found = solve(f, _moments(f, window, theta, p["sigma"], p["radius"]), step, theta, sigma=p["sigma"], prior=p["prior"])

    zero, one, huge = f.constant("no_score", 0), f.constant("full_score", 1), f.constant("huge", HUGE)
    amplitude = f("Mul", "amplitude", f("Exp", "amplitude_over_peak", found.log_amplitude), window.peak)
    parts = f("Concat", "fit_parts", found.offset, f("Min", "score", amplitude, one), found.covariance, axis=2)
    fit = f("Mul", "fit", parts, f.constant("to_crop", [stride, stride, 1, *[stride**2] * 3]))
    readable = f("Less", "readable", f("Abs", "peak_size", window.peak), huge)
    peak = f("Where", "readable_peak", readable, window.peak, zero)
    peak_score = f("Clip", "peak_score", peak, zero, one)
    at_score = f("MatMul", "peak_score_place", peak_score, f.constant("score_place", [[0, 0, 1, 0, 0, 0]]))
    unknown = f.constant("unknown", [0, 0, 0, (REACH * stride) ** 2, 0, (REACH * stride) ** 2])
    # The tests below are comparisons, false for a NaN: Min, Max and Clip of some runtimes lose one on the way, Less and Greater do not.
    # Whatever else went wrong, a NaN or an infinity among the six makes their sum one.
    total = f("MatMul", "fit_sum", fit, f.constant("six", np.ones((6, 1))))
    finite = f("Less", "finite", f("Abs", "fit_size", total), huge)
    there = f("And", "there", finite, f("Greater", "peak_over_tiny", peak, f.constant("tiny", TINY)))
    solved = f("And", "solved", there, found.solved)
    result = f("Where", "result", solved, fit, f("Add", "fallback", at_score, unknown))
    offset, score, _ = f.many("Split", "result_parts", [result, f.constant("result_sizes", [2, 1, 3], np.int64)], 3, axis=2)
    f("Add", "landmarks", window.cell, offset)
    f("Squeeze", "scores", score, f.constant("last", [-1], np.int64))
    split, *last = f.nodes[-3:]
    for node, number, name in zip((*last, split), (0, 0, 2), OUTPUTS, strict=True):
        node.output[number] = name
    return f


def _window(f: Fragment, heatmaps: str, size: int, radius: int, stride: float, grid: str, opset: int) -> Window:
    """The peak of each map and the anchors around it."""
    maps = f("Cast", "float", heatmaps, to=1)
    if opset < 18:
        highest = f("ReduceMax", "row_maxima", maps, axes=[3], keepdims=0)
    else:
        highest = f("ReduceMax", "row_maxima", maps, f.constant("columns", [3], np.int64), keepdims=0)
    row = f("ArgMax", "row", highest, axis=2, keepdims=0)
    flat = f("Reshape", "flat", maps, f.constant("flat_shape", [0, 0, size * size], np.int64))
    cells = f("Gather", "row_cells", f.constant("cells", np.arange(size**2).reshape(size, size), np.int32), row, axis=0)
    values = f("GatherElements", "row_values", flat, cells, axis=2)
    column = f("ArgMax", "column", values, axis=2, keepdims=1)
    peak = f("GatherElements", "peak", values, column, axis=2)
    start = f("GatherElements", "peak_cell", cells, column, axis=2)
    place = np.arange(size) * stride + grid_shift(stride, grid)
    x = f("Gather", "peak_x", f.constant("x_of_column", place), column, axis=0)
    y = f("Gather", "peak_y", f.constant("y_of_row", place[:, None]), row, axis=0)

    steps, inside, of_row, of_column = anchor_steps(size, size, radius)
    border_of_row = f("Gather", "border_of_row", f.constant("borders_of_rows", of_row, np.int32), row, axis=0)
    line = f("Squeeze", "column_index", column, f.constant("axis_2", [2], np.int64))
    border_of_column = f("Gather", "border_of_column", f.constant("borders_of_columns", of_column, np.int32), line, axis=0)
    border = f("Add", "border", border_of_row, border_of_column)
    far = np.where(inside, steps, 2 * size * size)
    index = f("Add", "anchor_index", start, f("Gather", "anchor_steps", f.constant("steps", far, np.int32), border, axis=0))
    safe = f("Min", "anchor_on_map", index, f.constant("last_cell", size * size - 1, np.int32))
    beyond = f("Cast", "beyond", f("Sub", "cells_beyond", index, safe), to=1)
    on_map = f("Div", "relative_on_map", f("GatherElements", "anchors", flat, safe, axis=2), peak)
    # Before what lies beyond is marked: the cell read in its stead may hold any number.
    relative = f("Max", "bounded_below", on_map, f.constant("lowest", LOWEST))
    fit_of_border = _first_fits(size, 2.0, radius, 1.0)[1]
    six = f.constant("theta_indices", fit_of_border[:, None] * 6 + np.arange(6), np.int32)
    return Window(
        f("Concat", "peak_place", x, y, axis=2),
        peak,
        f("Add", "relative", relative, beyond),
        f("Gather", "theta_index", six, border, axis=0),
    )


def _first_fits(size: int, sigma: float, radius: int, prior: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[25, fits * 6] the different first fits side by side, and [ways] which one belongs to a way the border cuts the window."""
    ways, fit_of_way = np.unique(anchor_steps(size, size, radius)[1][:, : first_anchors(radius)], axis=0, return_inverse=True)
    fit_of_way = fit_of_way.ravel()
    table = first_fit(size, size, sigma, radius, prior)[[int(np.argmax(fit_of_way == i)) for i in range(len(ways))]]
    return np.concatenate(list(table), 1), fit_of_way


def _first(f: Fragment, window: Window, size: int, *, sigma: float, radius: int, prior: float) -> tuple[str, str]:
    """The first fit, less theta of the target and as theta [N, L, 6]."""
    count = first_anchors(radius)
    bounds = [f.constant(name, [value], np.int64) for name, value in (("first", 0), ("inner_size", count))]
    inner = f("Slice", "inner", window.relative, *bounds, f.constant("window_axis", [2], np.int64))
    log_h = f("Log", "inner_log", f("Max", "inner_floor", inner, f.constant("floor", FLOOR)))
    y = f("Sub", "inner_over_target", log_h, f.constant("log_target", features(radius, sigma)[:count, 3]))
    fits = f("MatMul", "first_fits", y, f.constant("first_fit", _first_fits(size, sigma, radius, prior)[0]))
    step = f("GatherElements", "first_step", fits, window.theta_index, axis=2)
    return step, f("Add", "first_theta", step, f.constant("theta_target", [0, 0, 0, 1, 0, 0]))


def _moments(f: Fragment, window: Window, theta: str, sigma: float, radius: int) -> Moments:
    """Sums over the window for the Gauss-Newton step from ``theta``."""
    columns = features(radius, sigma)
    inlier, outlier = OUTLIER
    log_m = f("MatMul", "log_m", theta, f.constant("features", columns.T))
    m = f("Exp", "m", f("Min", "log_m_bounded", log_m, f.constant("max_log", MAX_LOG)))
    residual = f("Sub", "residual", window.relative, m)
    # The weight is 1 / `full` times what stands in the tensor; the constants behind carry the factor.
    full = outlier - inlier
    doubt = f("Sub", "doubt", f.constant("outlier", outlier), residual)
    weight = f("Clip", "weight", doubt, f.constant("nothing", 0), f.constant("full", full))
    weighted = f("Mul", "weighted_residual", weight, residual)
    products = f("Mul", "weighted_m_m", f("Mul", "weighted_m", weight, m), m)
    ones = f.constant("ones", np.full((len(columns), 3), 1 / full))  # three times each, as they are used on three numbers
    return Moments(
        f("MatMul", "products", products, f.constant("moment_columns", moment_columns(columns) / full)),
        f("MatMul", "gradient", f("Mul", "weighted_residual_m", weighted, m), f.constant("gradient_columns", columns / full)),
        f("MatMul", "rss", f("Mul", "weighted_residual_squared", weighted, residual), ones),
        f("MatMul", "n", weight, ones),
    )
