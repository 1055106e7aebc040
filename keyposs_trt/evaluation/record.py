"""An evaluation as JSON and as lines of text."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyposs_trt.evaluation.boxes import BoxSource
    from keyposs_trt.evaluation.figures import Figures, Row
    from keyposs_trt.evaluation.located import Located
    from keyposs_trt.evaluation.locator import Locator

_SHOWN = 5  # faces left out, in full
_NAMES = {"fr_008": "fr_0.08", "fr_010": "fr_0.1", "auc_010": "auc_0.1"}


def to_record(locator: Locator, located: Located, figures: Figures, boxes: BoxSource, flip_test: bool) -> dict[str, Any]:
    """Everything that was measured, ready for JSON: shares, not %; None for what could not be measured."""
    spec, dataset = locator.spec, located.dataset
    kept = ("name", "scheme", "points", "input_size", "heatmap_size", "sigma", "grid", "crop_scale", "decoder", "decoder_parameters")
    return {
        "model": {**{key: getattr(spec, key) for key in kept}, "backend": locator.backend},
        "data": {"name": dataset.name, "format": dataset.format, "path": str(dataset.path), "scheme": dataset.scheme},
        "boxes": {"source": boxes.name, "words": str(boxes), "scale": boxes.scale, "crop_scale": spec.crop_scale},
        "flip_test": flip_test,
        "norms": list(figures.norms),
        "norm_box": figures.norm_box,
        "faces": len(dataset),
        "missed": int(located.missed.sum()),
        "left_out_counts": dict(Counter(problem.kind for problem in located.left_out).most_common()),
        "left_out": [asdict(problem) for problem in located.left_out],
        "unusable_annotations": [asdict(problem) for problem in dataset.problems],
        "results": [{_NAMES.get(k, k): plain(v) for k, v in asdict(row).items()} for row in figures.rows],
        "parts": {decoder: {part: plain(v) for part, v in parts.items()} for decoder, parts in figures.parts.items()},
        "per_face": [_face(located, figures, i) for i in range(len(dataset))],
    }


def _face(located: Located, figures: Figures, number: int) -> dict[str, Any]:
    face = located.dataset.faces[number]
    return {
        "where": face.where,
        "image": face.image_name,
        "subsets": list(face.subsets),
        "box": [plain(v) for v in located.boxes[number].tolist()],
        "norms": {name: plain(float(lengths[number])) for name, lengths in figures.lengths.items()},
        "nme": {
            decoder: {name: plain(float(values[number])) for name, values in by_norm.items()} for decoder, by_norm in figures.errors.items()
        },
    }


def plain(value: Any) -> Any:
    """As JSON has it: None for NaN and infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_lines(record: dict[str, Any], figures: Figures) -> Iterator[str]:
    """What was measured for a reader; errors, rates and areas in %."""
    model, data, boxes = record["model"], record["data"], record["boxes"]
    sizes = f"input {model['input_size']}, heatmaps {model['heatmap_size']}"
    yield _line("model", f"{model['name']}, {model['points']} points, {sizes}, {model['backend']}")
    yield _line("data set", f"{data['name']} (format {data['format']}), compared in scheme {data['scheme']}")
    yield from _faces(record)
    yield _line("boxes", f"{boxes['words']} x {boxes['scale'] * boxes['crop_scale']:g}")
    yield _line("flip test", "yes" if record["flip_test"] else "no")
    if "box" in figures.norms:
        where = {"annotated": "the annotated box", "landmarks": "the box around the labelled points, as no box is annotated for every face"}
        yield _line("norm box", f"square root of the area of {where[figures.norm_box]}")
    yield ""
    columns = ("NME %", "FR@0.08 %", "FR@0.1 %", "AUC@0.1 %")
    yield from table_lines(("decoder", "norm", "subset", "faces", *columns), [_row(row) for row in figures.rows], texts=3)
    yield ""
    parts = list(next(iter(figures.parts.values())))
    yield f"NME % of the parts of the face, norm {figures.norms[0]}"
    yield from table_lines(("decoder", *parts), [(name, *(percent(by[p]) for p in parts)) for name, by in figures.parts.items()], texts=1)


def _faces(record: dict[str, Any]) -> Iterator[str]:
    yield _line("faces", f"{record['faces']}")
    if record["missed"]:
        yield _line("missed", f"{record['missed']} by the detector: not in the NME, failures in FR and AUC")
    if record["left_out"]:
        counts = ", ".join(f"{count} {kind}" for kind, count in record["left_out_counts"].items())
        yield _line("left out", f"{len(record['left_out'])}: {counts}")
        for problem in record["left_out"][:_SHOWN]:
            yield _line("", f"{problem['where']}: {problem['text']}")
        if len(record["left_out"]) > _SHOWN:
            yield _line("", f"... and {len(record['left_out']) - _SHOWN} more; --json FILE lists all")
    unusable = record["unusable_annotations"]
    if unusable:
        yield _line("unusable", f"{len(unusable)} annotations of the data set; the first: {unusable[0]['where']}: {unusable[0]['text']}")


def _row(row: Row) -> tuple[str, ...]:
    values = (row.nme, row.fr_008, row.fr_010, row.auc_010)
    return (row.decoder, row.norm, row.subset, str(row.faces), *(percent(v) for v in values))


def percent(value: float) -> str:
    """A share in %; - where it could not be measured."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _line(title: str, text: str) -> str:
    return f"{title:<12}{text}"


def table_lines(head: tuple[str, ...], rows: list[tuple[str, ...]], texts: int) -> Iterator[str]:
    """Columns as wide as they need: the first ``texts`` to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        cells = (f"{c:<{w}}" if i < texts else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield "  ".join(cells).rstrip()
