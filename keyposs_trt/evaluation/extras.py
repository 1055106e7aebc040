"""What a comparison measures on request: time and energy of what runs here, and the drift layer by layer."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.crop import crop_faces
from keyposs_trt.engine.precision import FP32
from keyposs_trt.engine.runner import open_runner
from keyposs_trt.evaluation.candidates import ONNXRUNTIME
from keyposs_trt.evaluation.layers import LayerDrift, layer_drift
from keyposs_trt.evaluation.locator import OWN
from keyposs_trt.evaluation.timing import time_runners
from keyposs_trt.geometry import square_of_box

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from keyposs_trt.evaluation.comparison import Options, Row
    from keyposs_trt.evaluation.models import Evaluation

_TIMED, _LAYERED = 8, 4  # faces


def timings_of(rows: Sequence[Row], options: Options) -> list[Row]:
    """With the time of each engine that runs here, and of FP32 on ONNX Runtime, by the model's own decoder.

    FP16 and INT8 graphs are not timed on the CPU: it computes them in float32 with rounding in between, slower than FP32, and
    that says nothing of an engine.
    """
    with ExitStack() as stack:
        runners, crops = {}, {}
        for i, row in enumerate(rows):
            file = _timed(row)
            if file is not None and row.evaluation is not None:
                runners[str(i)] = stack.enter_context(open_runner(file, row.runtime, options.threads))
                crops[str(i)] = crops_of(row.evaluation, _TIMED)
        found = time_runners(runners, crops) if runners else {}
    return [replace(row, timing=found.get(str(i))) for i, row in enumerate(rows)]


def _timed(row: Row) -> Path | None:
    """What to time for a row; None where its time would say nothing."""
    c = row.candidate
    if c is None or row.decoder != OWN or row.evaluation is None or row.twin:
        return None
    if c.plan is not None:
        return c.plan
    return c.graph.twin if c.graph is not None and (row.precision, row.runtime) == (FP32, ONNXRUNTIME) else None


def layers_of(rows: Sequence[Row], options: Options) -> list[Row]:
    """With the drift of the layers from those of the reference, of every row that has a graph."""
    references = {row.family: row for row in rows if row.is_reference}
    done: dict[tuple[Path, Path], tuple[LayerDrift, ...]] = {}
    found = []
    for row in rows:
        reference = references.get(row.family)
        graphs = [r.candidate.graph.twin for r in (reference, row) if r and r.candidate and r.candidate.graph and r.evaluation]
        if len(graphs) == 2 and graphs[0] != graphs[1] and reference and reference.evaluation:
            key = (graphs[0], graphs[1])
            if key not in done:
                done[key] = tuple(layer_drift(*key, crops_of(reference.evaluation, _LAYERED), options.threads))
            found.append(replace(row, layers=done[key]))
        else:
            found.append(row)
    return found


def crops_of(evaluation: Evaluation, most: int) -> NDArray[np.uint8]:
    """[N, S, S, 3] uint8 RGB: the first faces of an evaluation as its model saw them, N from 1 to ``most``."""
    model, located = evaluation.record["model"], evaluation.located
    crops = []
    for i in np.flatnonzero(~located.missed)[:most].tolist():
        squares = square_of_box(located.boxes[i][None], model["crop_scale"])
        crops.append(crop_faces(located.dataset.faces[i].read_image(), squares, model["input_size"])[0][0])
    return np.stack(crops)
