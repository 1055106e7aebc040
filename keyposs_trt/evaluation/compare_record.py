"""A comparison as JSON, as a table of text and as Markdown."""

from __future__ import annotations

import math
import platform
import re
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.evaluation.candidates import ONNXRUNTIME
from keyposs_trt.evaluation.record import percent, plain, table_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyposs_trt.evaluation.comparison import Comparison, Row

VERSION = 1
SHOWN_LAYERS, _SHOWN_IN_TEXT = 10, 3
_TEXTS = 4  # columns of words, before those of numbers


def to_tree(found: Comparison) -> dict[str, Any]:
    """Everything that was measured, ready for JSON: shares, not %; pixels of the crop; None for what could not be measured."""
    from keyposs_trt import __version__

    options, data = found.options, found.dataset
    return {
        "version": VERSION,
        "tool": f"keyposs-trt {__version__}",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": options.threads,
        "data": {"name": data.name, "format": data.format, "path": str(data.path), "scheme": data.scheme, "faces": len(data)},
        "boxes": found.boxes,
        "norm": found.norm,
        "gates": {"max_nme_increase_points": options.gates.increase, "max_drift_p99_pixels": options.gates.drift},
        "met": found.met,
        "rows": [_row(row) for row in found.rows],
        "notes": notes(found),
    }


def _row(row: Row) -> dict[str, Any]:
    values = {
        "model": row.model,
        "heatmap_size": row.heatmap,
        "precision": row.precision,
        "runtime": row.runtime,
        "runs_on": ONNXRUNTIME if row.twin else row.runtime,
        "twin": row.twin,
        "note": row.note,
        "decoder": row.decoder,
        "file_bytes": row.size,
        "faces": row.faces,
        "missed": row.missed,
        "nme": row.nme,
        "fr_0.1": row.fr_010,
        "auc_0.1": row.auc_010,
        "nme_increase": row.increase,
        "nme_increase_error": row.increase_error,
        "drift": None if row.drift is None else {k: plain(v) for k, v in asdict(row.drift).items()},
        "latency_ms": None if row.timing is None else {k: getattr(row.timing, k) for k in ("p50", "p90", "p99", "repeat")},
        "faces_per_second": None if row.timing is None else row.timing.throughput,
        "joules_per_face": None if row.timing is None else row.timing.joules,
        "power": None if row.timing is None else row.timing.power,
        "layers": None if row.layers is None else [{k: plain(v) for k, v in asdict(layer).items()} for layer in row.layers],
        "verdict": {"kind": row.verdict.kind, "text": row.verdict.text},
    }
    return {key: plain(value) for key, value in values.items()}


def machine() -> dict[str, Any]:
    """What it was measured on."""
    from keyposs_trt.engine.gpu import current_gpu

    try:
        named = re.search(r"^model name\s*:\s*(.*\S)", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
        board = "" if named else Path("/proc/device-tree/model").read_text(errors="replace").strip("\0 \n")
    except OSError:
        named, board = None, ""
    gpu = current_gpu()
    return {
        "cpu": " ".join(named[1].split()) if named else board or platform.processor() or platform.machine(),
        "gpu": gpu.name if gpu else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def columns(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The heads of the table and its rows as words; times only where there are any."""
    timed = any(row.timing for row in found.rows)
    heads = ("model", "precision", "runtime", "decoder", "map", "MB", "NME %", "+ points", "FR@0.1 %", "AUC %", "drift px", "p99 px")
    times = ("p50 ms", "p90 ms", "p99 ms", "faces/s", "J/face") if timed else ()
    return (*heads, *times, "worst landmark", "verdict"), [_cells(row, timed) for row in found.rows]


def _cells(row: Row, timed: bool) -> tuple[str, ...]:
    drift, t = row.drift, row.timing
    cells = (
        *(row.model, row.precision, row.runs_on, row.decoder),
        "-" if row.heatmap is None else str(row.heatmap),
        "-" if row.size is None else f"{row.size / 1e6:.2f}",
        percent(row.nme),
        "-" if math.isnan(row.increase) else f"{100 * row.increase:+.3f}",
        percent(row.fr_010),
        percent(row.auc_010),
        *(("-", "-") if drift is None else (f"{drift.mean:.3f}", f"{drift.p99:.3f}")),
    )
    if timed:
        numbers = ("-",) * 5 if t is None else (f"{t.p50:.2f}", f"{t.p90:.2f}", f"{t.p99:.2f}", f"{t.throughput:.0f}", _joules(t.joules))
        cells += numbers
    return (*cells, worst_landmark(row), row.verdict.text)


def _joules(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def worst_landmark(row: Row) -> str:
    """Name, index and mean drift of the landmark that moves most; - for none."""
    d = row.drift
    return "-" if d is None or not d.mean else f"{d.worst_name} ({d.worst}) {d.worst_mean:.2f}"


def notes(found: Comparison) -> list[str]:
    """What a reader of the figures must know, in sentences."""
    told = [
        "Drift and + points are against the FP32 model on ONNX Runtime, on the same faces; drift is in crop pixels, "
        f"a point is 1 % of {found.norm}."
    ]
    if any(row.precision != "fp32" and row.evaluation for row in found.rows):
        told.append(
            "FP16 and INT8 on ONNX Runtime are computed on the CPU with the rounding of an engine. That shows the accuracy, and nothing of "
            "the speed: their time is not measured."
        )
    if any(row.twin for row in found.rows):
        told.append("A twin is the same network in the same precision on ONNX Runtime, in the place of an engine that does not run here.")
    if any(row.twin and row.precision == "fp32" for row in found.rows):
        told.append("The twin of an FP32 engine is the reference itself, so it does not drift; an engine may, by TF32.")
    told += dict.fromkeys(f"{row.runtime}: {row.note}" for row in found.rows if row.twin and row.note)
    timings = [row.timing for row in found.rows if row.timing]
    if timings:
        times = (
            "Times are of the model alone, crops to landmarks: milliseconds for one face; faces a second and joules with eight in a call; "
            f"processor threads: {found.options.threads or 'all'}."
        )
        told += [times, *dict.fromkeys(f"Energy: {t.power.rstrip('.')}, idle power included." for t in timings if t.joules is not None)]
        told += dict.fromkeys(t.power for t in timings if t.joules is None)
    elif found.options.latency:
        told.append(
            "No time was measured: nothing of what was compared runs here at a speed that says anything, by the model's own decoder."
        )
    return told


def to_lines(found: Comparison) -> Iterator[str]:
    """The comparison for a reader."""
    data = found.dataset
    yield f"data set    {data.name} (format {data.format}), {len(data)} faces, compared in scheme {data.scheme}"
    yield f"boxes       {found.boxes}"
    yield f"norm        {found.norm}"
    yield ""
    heads, rows = columns(found)
    heads, *rows = _left([heads, *rows])
    yield from table_lines(heads, rows, texts=_TEXTS)
    yield from _layers(found)
    yield ""
    for note in notes(found):
        yield f"note: {note}"
    wrong = sum(not row.verdict.met for row in found.rows)
    yield f"{len(found.rows) - wrong} of {len(found.rows)} rows are as they should be" + ("." if not wrong else f", {wrong} not.")


def _left(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """With the last two columns, which are words behind numbers, filled up from the right."""
    widths = [max(len(row[i]) for row in rows) for i in (-2, -1)]
    return [(*row[:-2], *(cell.ljust(width) for cell, width in zip(row[-2:], widths, strict=True))) for row in rows]


def _layers(found: Comparison) -> Iterator[str]:
    for row in layered(found):
        yield ""
        yield f"layers of {row.model} in {row.precision} that drift most (relative: root mean square over that of FP32)"
        lines = [(layer.layer, layer.operator, *layer_numbers(layer)) for layer in worst_layers(row)[:_SHOWN_IN_TEXT]]
        yield from table_lines(("layer", "operator", "relative", "mean", "largest"), lines, texts=2)


def layered(found: Comparison) -> list[Row]:
    """The rows whose layers are shown: one for each model and precision."""
    shown: dict[tuple[str, str], Row] = {}
    for row in found.rows:
        if row.layers:
            shown.setdefault((row.family, row.precision), row)
    return list(shown.values())


def worst_layers(row: Row) -> list[Any]:
    """The layers that drift most, the largest relative drift first."""
    return sorted(row.layers or (), key=lambda layer: -layer.relative)[:SHOWN_LAYERS]


def layer_numbers(layer: Any) -> tuple[str, str, str]:
    """Relative drift, mean and largest difference as words."""
    return f"{layer.relative:.4f}", f"{layer.mean:.3g}", f"{layer.largest:.3g}"


def to_markdown(found: Comparison) -> str:
    """The table in Markdown."""
    heads, rows = columns(found)
    numbers = len(heads) - _TEXTS - 2
    marks = (*["---"] * _TEXTS, *["---:"] * numbers, "---", "---")
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in (heads, marks, *rows))
