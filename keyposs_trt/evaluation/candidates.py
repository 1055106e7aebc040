"""What is compared: each model in each precision on each runtime, and what runs here for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.engine.gpu import query_driver
from keyposs_trt.engine.precision import FP32, PRECISIONS
from keyposs_trt.engine.runner import PLAN_SUFFIXES, open_runner
from keyposs_trt.engine.versions import BACKENDS as ENGINE_BACKENDS
from keyposs_trt.errors import BackendError, InputError, KeypossError, ModelError, UsageError
from keyposs_trt.models import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyposs_trt.engine.manifest import Manifest
    from keyposs_trt.evaluation.twins import Graph, Workshop
    from keyposs_trt.graph.contract import ModelSpec

ONNXRUNTIME = "onnxruntime"
RUNTIMES = (ONNXRUNTIME, *ENGINE_BACKENDS)


@dataclass(frozen=True)
class Subject:
    """A model that is compared.

    Attributes:
        title: what the user calls it.
        path: an ONNX model, or an engine with its manifest.
    """

    title: str
    path: Path


@dataclass(frozen=True)
class Candidate:
    """One model in one precision on one runtime.

    Attributes:
        subject: the model.
        spec: what it says of itself; None where it could not be read.
        precision: fp32, fp16 or int8.
        runtime: that it is for.
        origin: the ONNX file it was made from; None where it could not be found.
        graph: the graph on the CPU; stands for the engine where there is none that runs here.
        plan: the engine that runs here; None for none.
        size: bytes of the file that would be deployed; None where there is none.
        note: why a twin stands for the engine; empty for no reason.
        error: why there is nothing to measure; None where there is.
    """

    subject: Subject
    spec: ModelSpec | None
    precision: str
    runtime: str
    origin: Path | None = None
    graph: Graph | None = None
    plan: Path | None = None
    size: int | None = None
    note: str = ""
    error: KeypossError | None = None

    @property
    def twin(self) -> bool:
        """Whether an ONNX graph stands for an engine."""
        return self.runtime != ONNXRUNTIME and self.plan is None and self.error is None

    @property
    def reference(self) -> bool:
        """Whether others may be judged by it."""
        return self.precision == FP32 and self.runtime == ONNXRUNTIME and self.graph is not None


def subjects_of(models: Sequence[str], sizes: Sequence[int] | None = None) -> list[Subject]:
    """Names and paths as models; with ``sizes``, the members of each family that have heatmaps of these sizes.

    Raises:
        ModelError: there is no such model.
        UsageError: a model is named twice, or an engine or a size makes no sense together.
    """
    from keyposs_trt.models import at_heatmap

    found: list[Subject] = []
    for model in models:
        engine = Path(model).suffix.lower() in PLAN_SUFFIXES
        if engine and sizes:
            raise UsageError(f"'{model}' is an engine, whose heatmaps have one size; leave out --heatmap, or name its model.")
        names = [at_heatmap(model, size) for size in sizes] if sizes else [model]
        found += [Subject(name, resolve(name)) for name in names]
    again = next((s.title for i, s in enumerate(found) if s.path.resolve() in {o.path.resolve() for o in found[:i]}), None)
    if again is not None:
        raise UsageError(f"The model '{again}' is compared twice; name it once.")
    return found


def check_axes(precisions: Sequence[str], runtimes: Sequence[str]) -> None:
    """Refuses names that make no sense; UsageError."""
    for what, names, known in (("precision", precisions, PRECISIONS), ("backend", runtimes, RUNTIMES)):
        if not names:
            raise UsageError(f"No {what} was asked for; choose from {', '.join(known)}.")
        for i, name in enumerate(names):
            if name not in known:
                raise UsageError(f"'{name}' is no {what}; choose from {', '.join(known)}.")
            if name in names[:i]:
                raise UsageError(f"The {what} '{name}' is named twice; name it once.")


def candidates_of(
    subject: Subject, workshop: Workshop, precisions: Sequence[str], runtimes: Sequence[str], engines: Path
) -> list[Candidate]:
    """All that is compared of one model; what cannot be had has its error.

    An ONNX model gives one candidate for each precision and runtime, FP32 on ONNX Runtime first, since it judges the others; a file that is
    FP16 or INT8 already comes in its own precision alone. An engine is what it is.

    Args:
        subject: the model.
        workshop: makes the graphs.
        precisions, runtimes: checked names.
        engines: folder for engines that are built.
    """
    if subject.path.suffix.lower() in PLAN_SUFFIXES:
        return _of_plan(subject, workshop)
    try:
        own, spec = workshop.precision_of(subject.path), workshop.load(subject.path)[1]
    except KeypossError as e:
        return [Candidate(subject, None, FP32, ONNXRUNTIME, error=e)]
    wanted = [(p, r) for p in (precisions if own == FP32 else [own]) for r in runtimes]
    if own == FP32:
        wanted = list(dict.fromkeys([(FP32, ONNXRUNTIME), *wanted]))
    return [_of_model(Candidate(subject, spec, p, r, subject.path), workshop, engines) for p, r in wanted]


def _of_model(wanted: Candidate, workshop: Workshop, engines: Path) -> Candidate:
    """An ONNX model in a precision on a runtime."""
    subject = wanted.subject
    try:
        graph = workshop.make(subject.path, wanted.precision, title=subject.title)
    except KeypossError as e:
        return replace(wanted, error=e)
    made = replace(wanted, graph=graph)
    if wanted.runtime == ONNXRUNTIME:
        return replace(made, size=graph.size)
    from keyposs_trt.engine.build import build_engine

    try:
        (built,) = build_engine(subject.path, engines, precision=wanted.precision, backend=wanted.runtime, calibration=graph.calibration)
    except BackendError as e:
        return replace(made, note=str(e))
    except KeypossError as e:
        return replace(made, graph=None, error=e)
    if built.plan is None:
        missing = isinstance(built.error, BackendError)
        return replace(made, note=str(built.error)) if missing else replace(made, graph=None, error=built.error)
    return _try(replace(made, size=built.plan.stat().st_size), built.plan)


def _of_plan(subject: Subject, workshop: Workshop) -> list[Candidate]:
    """An engine: run where it can be, else its twin; FP32 of its model, which judges it, goes first where it can be had."""
    from keyposs_trt.engine.manifest import check_file, read_manifest

    try:
        manifest = read_manifest(subject.path)
        check_file(subject.path, manifest)
    except KeypossError as e:
        return [Candidate(subject, None, "-", "-", error=e)]
    found = Candidate(subject, manifest.spec, manifest.precision, manifest.runtime, size=manifest.plan_bytes)
    found = _try(found, subject.path)
    try:
        origin = _origin_of(subject.path, manifest)
        graph = workshop.make(origin, manifest.precision, title=manifest.model, calibration=_ranges_of(subject.path, manifest))
        found = replace(found, origin=origin, graph=graph)
    except KeypossError as e:
        return [found if found.plan else replace(found, note="", error=e)]
    if workshop.precision_of(origin) != FP32:
        return [found]
    reference = Candidate(Subject(manifest.model, origin), manifest.spec, FP32, ONNXRUNTIME, origin)
    return [_of_model(reference, workshop, Path()), found]


def _try(candidate: Candidate, plan: Path) -> Candidate:
    """With the engine if it runs here, else with the reason why it does not."""
    try:
        open_runner(plan, candidate.runtime).close()
    except (BackendError, ModelError) as e:
        driver = query_driver()
        return replace(candidate, note=str(e) if driver.gpus else f"An engine needs an NVIDIA GPU, and there is {driver.problem}.")
    return replace(candidate, plan=plan)


def _origin_of(plan: Path, manifest: Manifest) -> Path:
    """The ONNX file that an engine was built from, as it was.

    Raises:
        ModelError: it is not here, or it has changed.
    """
    from keyposs_trt.engine.manifest import sha256_of

    places = [Path(manifest.model), plan.parent / manifest.model, plan.parent / Path(manifest.model).name]
    try:
        origin = resolve(manifest.model)
    except ModelError as e:
        origin = next((place for place in places if place.is_file()), None)
        if origin is None:
            raise ModelError(
                f"The engine '{plan}' was built from '{manifest.model}', which is not here; copy the model beside the engine."
            ) from e
    found = sha256_of(origin)
    if found != manifest.onnx_sha256:
        raise ModelError(
            f"The engine '{plan}' was built from another version of '{origin}' (SHA-256 {manifest.onnx_sha256[:12]}..., "
            f"now {found[:12]}...); build it again: {manifest.rebuild_command(plan.parent)}"
        )
    return origin


def _ranges_of(plan: Path, manifest: Manifest) -> Path | None:
    """The calibration that an engine was built with; None where its model brought the ranges along.

    Raises:
        InputError: it is not here.
        ModelError: it has changed.
    """
    from keyposs_trt.engine.manifest import sha256_of

    if manifest.calibration is None:
        return None
    named = Path(str(manifest.calibration.get("file")))
    file = next((f for f in (named, plan.parent / named, plan.parent / named.name) if f.is_file()), None)
    if file is None:
        raise InputError(f"The engine '{plan}' was built with the calibration '{named}', which is not here; copy it beside the engine.")
    if sha256_of(file) != manifest.calibration.get("sha256"):
        raise ModelError(
            f"The calibration '{file}' has changed since the engine '{plan}' was built; build it again: "
            f"{manifest.rebuild_command(plan.parent)}"
        )
    return file
