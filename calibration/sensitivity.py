"""Which layers INT8 costs accuracy in, and which of them to keep in float16 until the cost is within a tolerance."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from keyposs_trt.calibration.macs import multiply_adds
from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.graph.calibration_file import quantise_by
from keyposs_trt.graph.placement import place
from keyposs_trt.graph.qdq import network_of
from keyposs_trt.plots import check_plot, save_plot

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    import onnx

    from keyposs_trt.calibration.judge import Judge, Verdict
    from keyposs_trt.graph.calibration_file import Calibration


@dataclass(frozen=True)
class Layer:
    """One quantised operator and what it costs when it alone is in INT8.

    Attributes:
        name: of the operator.
        macs: multiply-adds for one crop.
        nme: NME over that of the float32 model, in points (%); may be negative by chance.
        drift: mean distance of the landmarks from the float32 model's, in crop pixels; never negative, so what layers are ranked by.
    """

    name: str
    macs: int
    nme: float
    drift: float


@dataclass(frozen=True)
class Step:
    """A model with some layers kept in float16.

    Attributes:
        kept: their number, the most costly first.
        int8_share: share of the network's multiply-adds that stay in INT8.
        nme: NME over that of the float32 model, in points (%).
        drift: mean distance of the landmarks from the float32 model's, in crop pixels.
        drift_p99: what 99 % of the distances stay below.
    """

    kept: int
    int8_share: float
    nme: float
    drift: float
    drift_p99: float


@dataclass(frozen=True)
class Decision:
    """What was measured and what follows.

    Attributes:
        tolerance: points of NME that INT8 may cost.
        reference: NME of the float32 model, a share.
        faces: number of faces measured on.
        layers: all quantised layers, the most costly first.
        steps: the trade, from all in INT8 to all in float16; up to ``chosen`` one by one, then in growing strides.
        chosen: number of layers kept in float16.
    """

    tolerance: float
    reference: float
    faces: int
    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]
    chosen: int

    @property
    def excluded(self) -> tuple[str, ...]:
        """Names of the layers kept in float16."""
        return tuple(layer.name for layer in self.layers[: self.chosen])

    def applied_to(self, calibration: Calibration, data: str) -> Calibration:
        """The calibration with the layers left out, and what was measured; ``data`` says on what."""
        chosen = self.steps[self.chosen]
        accuracy = {
            "data": data,
            "faces": self.faces,
            "nme_fp32": self.reference,
            "nme_int8": self.reference + chosen.nme / 100,
            "drift": chosen.drift,
            "drift_p99": chosen.drift_p99,
            "int8_share": chosen.int8_share,
            "tolerance": self.tolerance,
        }
        return replace(calibration, excluded=(*calibration.excluded, *self.excluded), accuracy=accuracy)

    def to_record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def decide(
    model: onnx.ModelProto,
    calibration: Calibration,
    judge: Judge,
    tolerance: float,
    *,
    name: str,
    progress: Callable[[int, int], object] | None = None,
) -> Decision:
    """Ranks the layers by what each alone costs in INT8, and keeps the most costly in float16, one after the other, until the NME is within
    the tolerance.

    Args:
        model: a float model of this toolkit.
        calibration: its ranges; layers it excludes stay excluded.
        judge: measures models on labelled faces, with the float32 model as reference.
        tolerance: points of NME (%) that INT8 may cost.
        name: of the model, for messages.
        progress: called with models measured and their number, as far as it is known.

    Raises:
        UsageError: the tolerance makes no sense.
        DataError: float16 alone costs more than the tolerance.
    """
    if not 0 <= tolerance <= 100:
        raise UsageError(f"The tolerance is points of NME from 0 to 100, not {tolerance:g}; 0.05 is usual.")
    graph = network_of(model).graph
    nodes = place(graph, calibration.excluded).nodes
    macs = multiply_adds(graph)
    total = sum(macs.values())
    count, done = len(nodes) + 8, 0

    def measured(excluded: Sequence[str]) -> Verdict:
        nonlocal done
        verdict = judge(quantise_by(model, replace(calibration, excluded=(*calibration.excluded, *excluded)), name, name))
        done += 1
        if progress is not None:
            progress(done, max(count, done))
        return verdict

    def cost(verdict: Verdict) -> float:
        return 100 * (verdict.nme - judge.reference.nme)

    layers = []
    for node in nodes:
        verdict = measured([other for other in nodes if other != node])
        layers.append(Layer(node, macs.get(node, 0), cost(verdict), verdict.drift))
    layers.sort(key=lambda layer: (-layer.drift, layer.name))

    def step(kept: int) -> Step:
        excluded = [layer.name for layer in layers[:kept]]
        verdict = measured(excluded)
        share = sum(n for node, n in macs.items() if node in nodes and node not in excluded) / total if total else 0.0
        return Step(kept, share, cost(verdict), verdict.drift, verdict.drift_p99)

    steps: list[Step] = []
    while not steps or steps[-1].nme > tolerance:
        if len(steps) > len(layers):
            told = f"'{name}' costs {steps[-1].nme:.3f} points of NME in float16 alone, more than the tolerance of {tolerance:g}"
            raise DataError(f"{told}; give a larger --tolerance.")
        steps.append(step(len(steps)))
    chosen = len(steps) - 1
    # What more layers in float16 would gain, for the picture alone.
    steps += [step(kept) for kept in sorted({*(2**i for i in range(8)), len(layers)}) if chosen < kept <= len(layers)]
    return Decision(tolerance, judge.reference.nme, judge.faces, tuple(layers), tuple(steps), chosen)


def trade(decision: Decision) -> list[str]:
    """The trade as lines of text: what each step costs, and the layers that are kept in float16."""
    lines = [f"{decision.faces} faces, NME of FP32 {100 * decision.reference:.3f} %, tolerance {decision.tolerance:g} points", ""]
    lines.append("in float16   INT8 share of multiply-adds   NME, points over FP32   drift, crop px (mean, p99)")
    for step in decision.steps:
        mark = "  <-" if step.kept == decision.chosen else ""
        lines.append(
            f"{step.kept:10d}   {100 * step.int8_share:26.1f} %   {step.nme:+21.3f}   {step.drift:12.3f} {step.drift_p99:12.3f}{mark}"
        )
    lines += ["", "the layers that cost most when they alone are in INT8", "NME, points   drift, crop px   multiply-adds   layer"]
    for number, layer in enumerate(decision.layers[:10]):
        kept = "  (kept in float16)" if number < decision.chosen else ""
        lines.append(f"{layer.nme:+11.3f}   {layer.drift:14.3f}   {layer.macs:13,d}   {layer.name}{kept}")
    return [*lines, ""]


def plot_trade(path: str | os.PathLike[str], decision: Decision) -> None:
    """Draws NME against the share of multiply-adds in INT8.

    Raises:
        UsageError, BackendError: see ``check_plot``.
        OutputError: the file cannot be written.
    """
    figure = check_plot(path, "--plot")(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    steps, chosen = decision.steps, decision.steps[decision.chosen]
    axes.plot([100 * s.int8_share for s in steps], [s.nme for s in steps], "o-", color="tab:blue")
    axes.axhline(decision.tolerance, color="tab:red", linestyle="--", label=f"tolerance: {decision.tolerance:g}")
    axes.axhline(0, color="black", linewidth=0.8)
    label = f"chosen: {chosen.kept} of {len(decision.layers)} layers in float16"
    axes.plot([100 * chosen.int8_share], [chosen.nme], "o", color="tab:green", markersize=10, label=label)
    title = f"{decision.faces} faces, NME of FP32 {100 * decision.reference:.2f} %"
    axes.set(xlabel="multiply-adds in INT8, %", ylabel="NME over FP32, points", title=title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    save_plot(figure, path)
