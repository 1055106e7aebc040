"""What was measured, as a tree for JSON and as lines for a reader."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.bench.comparison import RESAMPLES, ratio_of
from keyposs_trt.bench.machine import Machine, this_machine
from keyposs_trt.bench.measure import END_TO_END, FOLLOWED
from keyposs_trt.bench.stopwatch import Percentiles
from keyposs_trt.bench.subject import COPY_IN, CROP, DETECT, LANDMARKS_OUT, NETWORK, READ, STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyposs_trt.bench.measure import Measured, Result

TOGETHER = (DETECT, CROP, COPY_IN, NETWORK, LANDMARKS_OUT)  # what the end to end time is made of
WHOLE_MODEL = (COPY_IN, NETWORK, LANDMARKS_OUT)


def tree_of(result: Result, machine: Machine | None = None) -> dict[str, Any]:
    """Everything, ready for JSON; times are milliseconds a picture, those of batches milliseconds a call.

    Args:
        result: what was measured.
        machine: what it was measured on; None for this computer as it is now.
    """
    import cv2

    from keyposs_trt import __version__

    plan = result.plan
    return {
        "tool": f"keyposs-trt {__version__}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": (machine or this_machine()).to_json(),
        "opencv": cv2.__version__,
        "threads": plan.threads,
        "warm_up": plan.warm_up,
        "repeat": plan.repeat,
        "unit": "ms",
        "source": {"name": result.source, "kind": result.kind, "width": result.size[0], "height": result.size[1]},
        "models": [_model(m, result) for m in result.models],
        "comparison": _comparison(*result.models) if len(result.models) == 2 else None,
    }


def lines_of(tree: dict[str, Any]) -> Iterator[str]:
    """The tree for a reader, the headline first."""
    source, machine = tree["source"], Machine(**tree["machine"])
    labels = ("A  ", "B  ") if len(tree["models"]) > 1 else ("",)
    for label, model in zip(labels, tree["models"], strict=True):
        yield from _headline(label, model)
    yield "from a picture in memory to the landmarks of its faces; percentiles of the same passes below"
    yield ""
    yield f"machine   {machine}"
    yield f"picture   {source['name']}, {source['width']}x{source['height']} ({source['kind']})"
    yield f"passes    {tree['repeat']} after {tree['warm_up']} to warm up, threads: {tree['threads']}, {tree['tool']}, {tree['date']}"
    for label, model in zip(labels, tree["models"], strict=True):
        yield ""
        yield label + _description(model)
        yield from _stage_lines(model)
        if model["batches"]:
            yield ""
            yield from _batch_lines(model["batches"])
    if tree["comparison"]:
        yield ""
        yield from _comparison_lines(tree["comparison"])


def _model(measured: Measured, result: Result) -> dict[str, Any]:
    whole, followed = measured.figures(END_TO_END), measured.figures(FOLLOWED)
    assert whole is not None
    together = measured.figures(*TOGETHER)
    notes = measured.subject.notes
    stages = []
    for stage in STAGES:
        figures = measured.figures(stage)
        title = result.read if stage == READ else stage
        stages.append({"stage": stage, "title": title, "note": notes.get(stage, ""), "ms": figures.to_json() if figures else None})
    return {
        **measured.subject.facts(),
        "faces": {"mean": float(np.mean(measured.faces)), "pictures_with": int(np.count_nonzero(measured.faces))},
        "end_to_end": {**whole.to_json(), "frames_per_second": round(whole.rate(), 2)},
        "end_to_end_followed": {**followed.to_json(), "frames_per_second": round(followed.rate(), 2)} if followed else None,
        "stages": stages,
        "detect_to_landmarks": together.to_json() if together else None,
        "batches": [_batch(n, seconds) for n, seconds in measured.batches.items()],
    }


def _batch(count: int, seconds: Sequence[float]) -> dict[str, Any]:
    call = Percentiles.of(seconds)
    return {"batch": count, "ms": call.to_json(), "ms_a_face": round(call.p50 / count, 4), "faces_per_second": round(call.rate(count), 2)}


def _comparison(a: Measured, b: Measured) -> dict[str, Any]:
    """Row by row the time of the first model over that of the second, of passes taken in turns."""
    rows: list[tuple[str, tuple[str, ...]]] = [(END_TO_END, (END_TO_END,)), (FOLLOWED, (FOLLOWED,)), (DETECT, (DETECT,)), (CROP, (CROP,))]
    if [a.subject.notes.get(s) for s in WHOLE_MODEL] == [b.subject.notes.get(s) for s in WHOLE_MODEL]:
        rows += [(stage, (stage,)) for stage in WHOLE_MODEL]
    rows.append((f"{NETWORK} and {LANDMARKS_OUT}", WHOLE_MODEL))  # what two models have in common, however they are cut
    found = [_ratio(title, a.seconds(*names), b.seconds(*names)) for title, names in rows]
    found += [_ratio(f"batch {n}", a.batches[n], b.batches[n]) for n in a.batches]
    return {
        "order": "A B A B",
        "a": a.subject.model,
        "b": b.subject.model,
        "interval": f"95 %, bootstrap over pairs, {RESAMPLES} drawings",
        "rows": [row for row in found if row],
    }


def _ratio(what: str, a: Sequence[float], b: Sequence[float]) -> dict[str, Any] | None:
    """None where one of the two has no such stage, or not in the same passes."""
    if not a or len(a) != len(b):
        return None
    return {"what": what, "a": round(1e3 * float(np.median(a)), 4), "b": round(1e3 * float(np.median(b)), 4), **ratio_of(a, b).to_json()}


def _headline(label: str, model: dict[str, Any]) -> Iterator[str]:
    def words(figures: dict[str, float]) -> str:
        rest = f"(p90 {figures['p90']:.2f}, p99 {figures['p99']:.2f})"
        return f"{figures['p50']:.2f} ms a frame, {figures['frames_per_second']:.1f} frames a second {rest}"

    yield f"{label}{model['model']}: end to end {words(model['end_to_end'])}"
    if model["end_to_end_followed"]:
        yield f"{label}with faces followed as in 'keyposs-trt run': {words(model['end_to_end_followed'])}"


def _description(model: dict[str, Any]) -> str:
    runtime, faces = model["runtime"], model["faces"]
    precision = f", {runtime['precision']}" if "precision" in runtime else ""
    return (
        f"{model['model']} on {runtime['name']} {runtime['version']} ({runtime['device']}{precision}): crop {model['input_size']}, "
        f"heatmaps {model['heatmap_size']}, {model['points']} points, faces a picture: {faces['mean']:g}"
    )


def _stage_lines(model: dict[str, Any]) -> Iterator[str]:
    yield f"  {'ms a picture':22s}{'p50':>9s}{'p90':>9s}{'p99':>9s}"
    for stage in model["stages"]:
        yield _line(stage["title"], stage["ms"], stage["note"])
    yield _line("detect to landmarks", model["detect_to_landmarks"], "the stages of the end to end time")


def _line(title: str, ms: dict[str, float] | None, note: str) -> str:
    values = [f"{ms[p]:9.3f}" if ms else f"{'-':>9s}" for p in ("p50", "p90", "p99")]
    return f"  {title:22s}{''.join(values)}   {note}".rstrip()


def _batch_lines(batches: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"  {'faces a call':22s}{'p50':>9s}{'p90':>9s}{'p99':>9s}{'ms a face':>12s}{'faces a second':>17s}   ms, crops to landmarks"
    for row in batches:
        ms = row["ms"]
        values = "".join(f"{ms[p]:9.3f}" for p in ("p50", "p90", "p99"))
        yield f"  {row['batch']:<22d}{values}{row['ms_a_face']:12.3f}{row['faces_per_second']:17.1f}"


def _comparison_lines(comparison: dict[str, Any]) -> Iterator[str]:
    yield f"A {comparison['a']} against B {comparison['b']}, in turns ({comparison['order']}): medians in ms, and A's time over B's"
    yield f"  {'':30s}{'A':>9s}{'B':>9s}{'A / B':>9s}   95 % interval"
    for row in comparison["rows"]:
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        verdict = row["verdict"] if row["verdict"].startswith("no") else f"A is {row['verdict']}"
        yield f"  {row['what']:30s}{row['a']:9.3f}{row['b']:9.3f}{row['ratio']:9.3f}   {interval:18s}{verdict}"
