"""The pictures of a comparison, as bytes of PNG and JPEG files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from keyposs_trt.contact_sheet import contact_sheet
from keyposs_trt.engine.precision import FP16, FP32, INT8
from keyposs_trt.evaluation.ced import LIMIT, cumulative
from keyposs_trt.evaluation.drift import distances, pairs_of
from keyposs_trt.evaluation.worst import draw_face, worst_faces
from keyposs_trt.plots import figure_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from keyposs_trt.evaluation.comparison import Comparison, Row

# Told apart also by those who see red and green alike (Okabe and Ito, Color Universal Design, 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_STYLES = {FP32: "-", FP16: "--", INT8: ":"}
_MARKS = {FP32: "o", FP16: "s", INT8: "^"}
_HARDEST, _MOVED = 2, 2  # faces of a sheet: by NME, and by drift
_ACROSS = 4  # precisions of a sheet
_QUALITY = 80


def measured_once(rows: Sequence[Row]) -> list[Row]:
    """The rows that were measured by themselves: a twin that another row shows already is left out, and other decoders."""
    found: dict[tuple[int, str], Row] = {}
    for row in rows:
        if row.evaluation is not None:
            found.setdefault((id(row.evaluation), row.decoder), row)
    return list(found.values())


def plot_nme(found: Comparison) -> bytes:
    """PNG: NME by model, a line for each precision and decoder; below it what each costs over FP32, and the limits."""
    rows = measured_once(found.rows)
    models = list(dict.fromkeys(row.family or row.model for row in rows))
    decoders = list(dict.fromkeys(row.decoder for row in rows))
    precisions = [p for p in (FP32, FP16, INT8) if any(row.precision == p for row in rows)]
    figure, (top, below) = _figure(7.2, 6.6, 2)
    for d, decoder in enumerate(decoders):
        for k, precision in enumerate(precisions):
            line = [row for row in rows if (row.decoder, row.precision) == (decoder, precision)]
            x = [models.index(row.family or row.model) + 0.1 * (k - (len(precisions) - 1) / 2) for row in line]
            colour = _COLOURS[(k if len(decoders) == 1 else d) % len(_COLOURS)]
            style = {"color": colour, "marker": _MARKS[precision], "markersize": 5, "linewidth": 1.2, "linestyle": _STYLES[precision]}
            label = precision if len(decoders) == 1 else f"{decoder}, {precision}"
            top.plot(x, [100 * row.nme for row in line], label=label, **style)
            costs = [(at, row) for at, row in zip(x, line, strict=True) if row.drift is not None]
            if costs:
                errors = np.nan_to_num([100 * row.increase_error for _, row in costs])
                style = {**style, "linestyle": "none"}
                below.errorbar([at for at, _ in costs], [100 * row.increase for _, row in costs], yerr=errors, capsize=3, **style)
    names = [_with_size(next(row for row in rows if (row.family or row.model) == model)) for model in models]
    for axes in (top, below):
        axes.set_xticks(range(len(models)), names)
        axes.grid(visible=True, alpha=0.3)
        axes.set_xlim(-0.5, len(models) - 0.5)
    limits: dict[float, list[str]] = {}
    for precision in precisions:
        if precision in found.options.gates.increase and precision != FP32:
            limits.setdefault(found.options.gates.increase[precision], []).append(precision)
    for value, held in limits.items():
        label = f"limit of {' and '.join(held)}: {value:g}"
        below.axhline(value, color="#a00000", linewidth=1, linestyle=_STYLES[held[0]], label=label)
    if limits:
        below.legend(fontsize=8, loc="best")
    below.axhline(0, color="#555555", linewidth=0.8)
    top.set(ylabel=f"NME in % of {found.norm}", ylim=(0, None))
    top.legend(fontsize=8, ncols=2 if len(decoders) > 1 else 1)
    below.set(ylabel="NME over FP32, points\n(bars: standard error)")
    return _png(figure)


def plot_curves(found: Comparison) -> bytes:
    """PNG: the cumulative error distribution by the first decoder; a colour for each model, a style for each precision."""
    rows = [row for row in measured_once(found.rows) if row.decoder == found.options.decoders[0]]
    models = list(dict.fromkeys(row.family or row.model for row in rows))
    figure, (axes,) = _figure(7.2, 4.8, 1)
    for row in rows:
        assert row.evaluation is not None  # as measured_once gives it
        figures = row.evaluation.figures
        errors = figures.errors[row.decoder][found.norm][np.isfinite(figures.lengths[found.norm])]
        values, shares = cumulative(errors)
        colour = _COLOURS[models.index(row.family or row.model) % len(_COLOURS)]
        style = {"color": colour, "linestyle": _STYLES[row.precision], "linewidth": 1.4}
        axes.step(100 * values, 100 * shares, where="post", label=f"{_short(row)} {row.precision}", **style)
    axes.set(xlim=(0, 100 * LIMIT), ylim=(0, 100), xlabel=f"NME in % of {found.norm}", ylabel="faces in %")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7, ncols=max(1, -(-len(rows) // 8)), loc="lower right")
    return _png(figure)


def plot_latency(found: Comparison) -> bytes | None:
    """PNG: NME against the median time of a face; None where no time was measured."""
    rows = [row for row in found.rows if row.timing is not None]
    if not rows:
        return None
    runtimes = list(dict.fromkeys(row.runtime for row in rows))
    figure, (axes,) = _figure(7.2, 4.4, 1)
    told = set()
    for i, row in enumerate(sorted(rows, key=lambda row: row.timing.p50 if row.timing else 0)):
        assert row.timing is not None  # as chosen above
        kind = (row.runtime, row.precision)
        style = {"color": _COLOURS[runtimes.index(row.runtime) % len(_COLOURS)], "marker": _MARKS[row.precision], "linestyle": "none"}
        label = None if kind in told else " ".join(kind)
        told.add(kind)
        axes.plot([row.timing.p50], [100 * row.nme], label=label, **style)
        # Above and below in turn, as models of nearly the same time stand beside each other.
        place = {"xytext": (0, -14 if i % 2 else 7), "textcoords": "offset points", "ha": "center"}
        axes.annotate(_short(row), (row.timing.p50, 100 * row.nme), fontsize=8, **place)
    axes.set(xlabel="milliseconds for one face, median", ylabel=f"NME in % of {found.norm}")
    axes.margins(0.12, 0.15)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="best")
    return _png(figure)


def worst_sheets(found: Comparison) -> list[tuple[str, bytes]]:
    """For each model a title and a JPEG: a line for each face, a column for each precision, by the first decoder.

    The faces are those with the largest NME in any precision, then those whose landmarks move most.
    """
    once = [row for row in measured_once(found.rows) if row.decoder == found.options.decoders[0]]
    sheets = []
    for family in dict.fromkeys(row.family or row.model for row in once):
        rows = [row for row in once if (row.family or row.model) == family][:_ACROSS]
        sheets.append((f"{_short(rows[0])}: {', '.join(row.precision for row in rows)}", _sheet(rows, found.norm)))
    return sheets


def _sheet(rows: Sequence[Row], norm: str) -> bytes:
    import cv2

    tiles = []
    for i in _faces_to_show(rows, norm):
        for row in rows:
            assert row.evaluation is not None  # as measured_once gives it
            located, errors = row.evaluation.located, row.evaluation.figures.errors[row.decoder][norm]
            face = located.dataset.faces[i]
            what = "missed" if located.missed[i] else f"{100 * errors[i]:.2f} %"
            tiles.append(
                draw_face(face, located.points[located.decoders.index(row.decoder), i], f"{row.precision} {what} {face.image_name}")
            )
    done, data = cv2.imencode(".jpg", contact_sheet(tiles, len(rows)), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done  # a picture in memory can always be coded
    return cast("NDArray[np.uint8]", data).tobytes()


def _faces_to_show(rows: Sequence[Row], norm: str) -> list[int]:
    """Indices of the hardest faces, then of those that drift most."""
    evaluations = [row.evaluation for row in rows if row.evaluation is not None]
    first = evaluations[0]
    number = len(first.located.dataset)
    by_face = np.stack([e.figures.errors[row.decoder][norm] for e, row in zip(evaluations, rows, strict=True)])
    hardest = worst_faces(np.fmax.reduce(by_face, 0), first.located.missed, number)
    model = first.record["model"]
    crop = {"input_size": model["input_size"], "crop_scale": model["crop_scale"]}
    moved = np.zeros(number)
    for e, row in zip(evaluations[1:], rows[1:], strict=True):
        index = tuple(x.located.decoders.index(row.decoder) for x in (first, e))
        pairs, _ = pairs_of(first.located, e.located)
        moved[pairs] = np.fmax(moved[pairs], distances(first.located, e.located, (index[0], index[1]), **crop).mean(1))
    order = [i for i in np.argsort(-moved, kind="stable").tolist() if moved[i] > 0 and i not in hardest[:_HARDEST]]
    return [*hardest[:_HARDEST], *order[:_MOVED]]


def _short(row: Row) -> str:
    """A model's name for a plot: the file's own."""
    name = row.model.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".onnx")
    return name if len(name) <= 24 else f"...{name[-22:]}"


def _with_size(row: Row) -> str:
    """The name, and the side of the maps where the name does not end in it."""
    name = _short(row)
    return name if name.endswith(f"-{row.heatmap}") else f"{name}\nmap {row.heatmap}"


def _figure(width: float, height: float, down: int) -> tuple[Any, Sequence[Any]]:
    figure = figure_class("--html")(figsize=(width, height), layout="constrained")
    axes = figure.subplots(down, 1, squeeze=False)
    return figure, axes[:, 0].tolist()


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
