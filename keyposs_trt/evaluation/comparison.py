"""A comparison of models: what was asked for, a row for each combination, and what the rows have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyposs_trt.engine.precision import FP16, FP32
from keyposs_trt.evaluation.candidates import ONNXRUNTIME
from keyposs_trt.evaluation.locator import OWN
from keyposs_trt.evaluation.verdict import Gates

if TYPE_CHECKING:
    from pathlib import Path

    from keyposs_trt.datasets import Dataset
    from keyposs_trt.evaluation.candidates import Candidate
    from keyposs_trt.evaluation.drift import Drift
    from keyposs_trt.evaluation.layers import LayerDrift
    from keyposs_trt.evaluation.models import Evaluation
    from keyposs_trt.evaluation.timing import Timing
    from keyposs_trt.evaluation.verdict import Verdict


@dataclass(frozen=True)
class Options:
    """What is compared, and how.

    Attributes:
        precisions: fp32, fp16, int8; FP32 is always measured, as it judges the others.
        decoders: ``model`` and names of ``decode.DECODERS``.
        runtimes: onnxruntime, tensorrt, tensorrt-rtx.
        norm: of the NME; None for that of the scheme's published figures.
        boxes, box_scale, detector: as ``Setup`` takes them.
        calibrations: files, and folders of ``NAME.calibration.json``; none for the one beside each model.
        gates: the limits of the verdicts.
        faces: look at so many at most, spread evenly over the data set; None for all.
        latency: time what runs here.
        layers: measure the drift layer by layer.
        engines: folder for engines that are built; None for a temporary one.
        threads, processes: as ``evaluate_models`` takes them.
        as_it_is: compare by the points of the data set.
    """

    precisions: tuple[str, ...] = (FP32, FP16)
    decoders: tuple[str, ...] = (OWN,)
    runtimes: tuple[str, ...] = (ONNXRUNTIME,)
    norm: str | None = None
    boxes: str = "landmarks"
    box_scale: float = 1.0
    detector: str = "blazeface"
    calibrations: tuple[Path, ...] = ()
    gates: Gates = field(default_factory=Gates)
    faces: int | None = None
    latency: bool = False
    layers: bool = False
    engines: Path | None = None
    threads: int | None = None
    processes: int = 1
    as_it_is: bool = False


@dataclass(frozen=True, eq=False)
class Row:
    """One model in one precision on one runtime by one decoder; errors and rates are shares, not %.

    Attributes:
        model: what the user calls it.
        heatmap: side of its maps; None where it could not be read.
        precision, decoder: which.
        runtime: that it is for.
        twin: measured on an ONNX graph in its place.
        note: why; empty for no reason.
        size: bytes of the file that is deployed; None where there is none.
        verdict: of the gates.
        faces, missed: looked at; not found by the detector.
        nme, fr_010, auc_010: of all faces by ``Comparison.norm``; NaN where they could not be measured.
        increase, increase_error: of the NME over the reference, and its standard error; NaN likewise and in a reference.
        drift: from the reference; None likewise.
        timing: None where it was not asked for, or a figure of this machine would say nothing.
        layers: from the reference, in the order of the network; None where it was not asked for.
        evaluation: the faces, for pictures; None where there are none.
        family: what judges whom: rows of one family by their reference.
        candidate: what was measured.
    """

    model: str
    heatmap: int | None
    precision: str
    runtime: str
    decoder: str
    twin: bool
    note: str
    size: int | None
    verdict: Verdict
    faces: int = 0
    missed: int = 0
    nme: float = math.nan
    fr_010: float = math.nan
    auc_010: float = math.nan
    increase: float = math.nan
    increase_error: float = math.nan
    drift: Drift | None = None
    timing: Timing | None = None
    layers: tuple[LayerDrift, ...] | None = None
    evaluation: Evaluation | None = None
    family: str = ""
    candidate: Candidate | None = None

    @property
    def is_reference(self) -> bool:
        """Whether it judges its family."""
        return bool(self.family) and self.evaluation is not None and (self.precision, self.runtime) == (FP32, ONNXRUNTIME)

    @property
    def runs_on(self) -> str:
        """The runtime, and what stands for it: ``tensorrt-rtx (twin: onnxruntime)``."""
        return f"{self.runtime} (twin: {ONNXRUNTIME})" if self.twin else self.runtime


@dataclass(frozen=True, eq=False)
class Comparison:
    """All rows, and what they have in common.

    Attributes:
        rows: families one after the other, in the order of the models; in each the reference first.
        dataset: the faces that were looked at.
        norm: of the NME.
        boxes: where the faces' boxes are from, in words.
        options: what was asked for.
    """

    rows: tuple[Row, ...]
    dataset: Dataset
    norm: str
    boxes: str
    options: Options

    @property
    def met(self) -> bool:
        """Whether every row could be measured and passes."""
        return all(row.verdict.met for row in self.rows)
