"""Engines from ONNX models, with TensorRT or TensorRT-RTX.

Networks are strongly typed: precision lives in the graph (fp16 by casting it, int8 by Q/DQ nodes), never in a builder flag. That is one
path from TensorRT 10.3 to 11.x and TensorRT-RTX, and what was asked for can be proven on the typed network before the build starts.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.compile import Compiled, Job, compile_plan
from keyposs_trt.engine.gpu import query_driver
from keyposs_trt.engine.log import Log
from keyposs_trt.engine.manifest import Manifest, check_file, read_manifest, sha256_of, this_platform, write_plan
from keyposs_trt.engine.onnx_file import load_onnx
from keyposs_trt.engine.plugin_library import find_library, needs_plugin
from keyposs_trt.engine.precision import FP16, FP32, INT8, PRECISIONS
from keyposs_trt.engine.versions import CURRENT, load_backend
from keyposs_trt.errors import BackendError, KeypossError, OutputError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    import onnx

    from keyposs_trt.engine.gpu import Driver
    from keyposs_trt.engine.progress import Progress
    from keyposs_trt.engine.versions import Backend

DEFAULT_FOLDER = "engines"
DEFAULT_BATCH = (1, 4, 16)


@dataclass(frozen=True)
class BuildResult:
    """One engine, or why there is none.

    Attributes:
        precision: asked for.
        plan: the plan file; None where the build failed.
        manifest: of the plan; None where the build failed.
        error: why it failed; None where it did not.
        seconds: time it took.
        notes: advice on an engine that was built, in sentences.
        log: TensorRT's warnings and errors.
        model: what it was built from, as it was named.
        skipped: the plan was there already and nothing had changed.
    """

    precision: str
    plan: Path | None
    manifest: Manifest | None
    error: KeypossError | None
    seconds: float
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    model: str = ""
    skipped: bool = False


def build_engine(
    model: str | os.PathLike[str] | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    *,
    precision: str | Sequence[str] = (FP32, FP16),
    heatmap: int | Sequence[int] | None = None,
    backend: str = "auto",
    gpu: str | Sequence[str] | None = None,
    batch: tuple[int, int, int] = DEFAULT_BATCH,
    workspace: int | None = None,
    calibration: str | os.PathLike[str] | None = None,
    compatibility: str | Sequence[str] = (),
    force: bool = False,
    measure: Callable[[onnx.ModelProto, onnx.ModelProto], dict[str, Any]] | None = None,
    progress: Progress | None = None,
) -> list[BuildResult]:
    """Builds one engine a heatmap size and precision: ``NAME_PRECISION_BACKEND.plan`` and its manifest ``....plan.json``.

    An engine that is there, whole, and built from the same model in the same way by the same versions, is not built again.

    Args:
        model: an ONNX file or the short name of a shipped model; None for the default model.
        out_dir: folder of the plans, made if need be; None for ``engines`` in the current folder.
        precision: ``fp32``, ``fp16``, ``int8``; the last for a model that carries Q/DQ nodes, or that ranges were measured for.
        heatmap: sizes of a family of models named ``NAME-SIZE``; None for the model as named.
        backend: ``tensorrt``, ``tensorrt-rtx``, or ``auto`` for the first of both that is installed.
        gpu: compute capabilities such as ``sm86`` (TensorRT-RTX), or ``current``; None for the backend's default: sm86, sm89 and
            sm120 with TensorRT-RTX, which needs no GPU to build for them, and the GPU of this machine with TensorRT.
        batch: smallest, best and largest number of faces in one call.
        workspace: memory the build may use for scratch space, in bytes; None for half of the GPU's free memory.
        calibration: ranges for int8; None for ``NAME.calibration.json`` beside the model.
        compatibility: TensorRT alone: ``hardware`` for a plan that runs on all GPUs from Ampere on, ``version`` for one that newer
            TensorRTs run too and that holds the plugin it needs.
        force: build even what is there.
        measure: gives what goes into the manifest as ``measured``, from the model and the graph that was built.
        progress: called with precision, phase, steps done and steps in the phase, from another thread; the toolkit's own phases have
            0 steps, TensorRT's have some. With several models the first is model and precision.

    Returns:
        one result a heatmap size and precision, in the order asked for; one that failed has ``error`` set, and the others are built all
        the same.

    Raises:
        UsageError: an argument that makes no sense.
        InputError, ModelError: the only model cannot be read or is not one of this toolkit.
        BackendError: the runtime is missing, it needs a GPU and there is none, or the model needs a plugin whose library is not here.
        OutputError: the folder cannot be made.
    """
    precisions = _check_precisions([precision] if isinstance(precision, str) else precision)
    _check_numbers(batch, workspace)
    runtime = load_backend(backend)
    targets = runtime.check_targets([gpu] if isinstance(gpu, str) else gpu)
    kinds = runtime.check_compatibility([compatibility] if isinstance(compatibility, str) else compatibility)
    driver = query_driver()
    if CURRENT in targets:
        targets = (_gpu_at_hand(runtime, driver),)
    names = _family(model, heatmap)
    if calibration is not None and len(names) > 1:
        raise UsageError("A calibration is of one model; put NAME.calibration.json beside each, or build one heatmap size.")
    common: dict[str, Any] = {
        "backend": runtime,
        "driver": driver,
        "targets": targets,
        "batch": batch,
        "workspace": workspace,
        "compatibility": kinds,
        "progress": progress,
    }
    results: list[BuildResult] = []
    for name in names:
        try:
            job = _job(name, out_dir, INT8 in precisions, calibration, len(names) > 1, common)
        except KeypossError as e:
            if len(names) == 1:
                raise
            results += [BuildResult(p, None, None, e, 0.0, model=str(name)) for p in precisions]
            continue
        results += [_build_one(job, p, force, measure) for p in precisions]
    return results


def _family(model: str | os.PathLike[str] | None, heatmap: int | Sequence[int] | None) -> list[str | os.PathLike[str] | None]:
    """The models to build."""
    from keyposs_trt.models import at_heatmap

    if heatmap is None:
        return [model]
    sizes = [heatmap] if isinstance(heatmap, int) else list(dict.fromkeys(heatmap))
    if not sizes:
        raise UsageError("No heatmap size was asked for; leave it out to build the model as named.")
    return [at_heatmap(model, size) for size in sizes]


def _job(
    model: str | os.PathLike[str] | None,
    out_dir: str | os.PathLike[str] | None,
    int8: bool,
    calibration: str | os.PathLike[str] | None,
    several: bool,
    common: dict[str, Any],
) -> Job:
    from keyposs_trt.graph.calibration_file import calibration_beside, read_calibration
    from keyposs_trt.models import resolve

    path = resolve(model)
    graph, spec = load_onnx(path)
    if needs_plugin(graph) and not common["backend"].is_rtx:
        find_library()  # better told before the first build than after
    ranges = (Path(calibration) if calibration is not None else calibration_beside(path)) if int8 else None
    return Job(
        model=path.stem if model is None else str(model),
        path=path,
        graph=graph,
        spec=spec,
        onnx_sha256=sha256_of(path),
        folder=_make_folder(DEFAULT_FOLDER if out_dir is None else out_dir),
        calibration=None if ranges is None else read_calibration(ranges),
        calibration_path=ranges,
        title=path.stem if several else "",
        **common,
    )


def _build_one(
    job: Job, precision: str, force: bool, measure: Callable[[onnx.ModelProto, onnx.ModelProto], dict[str, Any]] | None
) -> BuildResult:
    """One engine; errors become part of the result."""
    start = time.perf_counter()
    log = Log(job.backend)
    plan = job.folder / f"{job.path.stem}_{precision}_{job.backend.name}.plan"
    there = None if force else _unchanged(job, precision, plan, measure is not None)
    if there is not None:
        return BuildResult(precision, plan, there, None, 0.0, notes=_notes(job, precision), model=job.model, skipped=True)
    try:
        compiled = compile_plan(job, precision, log)
        seconds = time.perf_counter() - start
        measured = None if measure is None else measure(job.graph, compiled.graph)
        manifest = _describe(job, precision, compiled, plan, seconds, measured)
        write_plan(plan, compiled.plan, manifest)
    except KeypossError as e:
        return BuildResult(precision, None, None, e, time.perf_counter() - start, log=_lines(log), model=job.model)
    return BuildResult(precision, plan, manifest, None, seconds, notes=_notes(job, precision), log=_lines(log), model=job.model)


def _unchanged(job: Job, precision: str, plan: Path, measured: bool) -> Manifest | None:
    """The manifest of a plan that is there, whole, and just as it would be built now; None for one that is not."""
    try:
        manifest = read_manifest(plan)
        check_file(plan, manifest)
    except KeypossError:
        return None
    wanted = {**_asked(job, precision), "plugin": _plugin(job), "platform": this_platform()}
    if any(getattr(manifest, key) != value for key, value in wanted.items()) or (measured and manifest.measured is None):
        return None
    return manifest


def _asked(job: Job, precision: str) -> dict[str, Any]:
    """What the manifest says of how it was asked for."""
    from keyposs_trt import __version__

    return {
        "model": job.model,
        "onnx_sha256": job.onnx_sha256,
        "spec": job.spec,
        "precision": precision,
        "runtime": job.backend.name,
        "runtime_version": job.backend.version,
        "gpu": job.driver.gpus[0].name if job.driver.gpus else None,
        "targets": job.targets,
        "batch": job.batch,
        "workspace": job.workspace,
        "compatibility": job.compatibility,
        "calibration": _calibration(job) if precision == INT8 else None,
        "tool": f"keyposs-trt {__version__}",
    }


def _plugin(job: Job) -> dict[str, str] | None:
    from keyposs_trt.engine.plugin_library import described

    return described() if needs_plugin(job.graph) else None


def _calibration(job: Job) -> dict[str, Any] | None:
    """Where an INT8 engine's ranges come from; None where the model brought its Q/DQ nodes along."""
    c = job.calibration
    if c is None or job.calibration_path is None:
        return None
    return {
        "file": str(job.calibration_path),
        "sha256": sha256_of(job.calibration_path),
        "method": c.method,
        "percentile": c.percentile,
        "source": c.source,
        "samples": c.samples,
        "set_sha256": c.set_sha256,
        "excluded": list(c.excluded),
        "accuracy": c.accuracy,
    }


def _describe(job: Job, precision: str, compiled: Compiled, plan: Path, seconds: float, measured: dict[str, Any] | None) -> Manifest:
    return Manifest(
        **_asked(job, precision),
        plan=plan.name,
        plan_sha256=hashlib.sha256(compiled.plan).hexdigest(),
        plan_bytes=len(compiled.plan),
        precision_found=compiled.precision,
        layers=compiled.layers,
        engine_types=compiled.engine_types,
        cuda=job.driver.cuda,
        platform=this_platform(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        build_seconds=round(seconds, 3),
        plugin=compiled.plugin,
        measured=measured,
    )


def _check_precisions(precisions: Sequence[str]) -> tuple[str, ...]:
    if not precisions:
        raise UsageError(f"No precision was asked for; known are {', '.join(PRECISIONS)}.")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"'{precision}' is no precision; known are {', '.join(PRECISIONS)}.")
    return tuple(dict.fromkeys(precisions))


def _check_numbers(batch: tuple[int, int, int], workspace: int | None) -> None:
    if len(batch) != 3 or not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise UsageError(f"The batch {':'.join(map(str, batch))} makes no sense; give three rising numbers MIN:BEST:MAX, such as 1:4:16.")
    if workspace is not None and workspace <= 0:
        raise UsageError(f"The workspace must be positive, not {workspace}.")


def _make_folder(folder: str | os.PathLike[str]) -> Path:
    """Makes the folder before any building: a long build should not end at a mistyped path."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"Cannot make the folder '{path}': {e.strerror or e}; choose another one.") from e
    return path


def _gpu_at_hand(backend: Backend, driver: Driver) -> str:
    """The target name of this machine's GPU."""
    if driver.gpus:
        gpu = driver.gpus[0]
        if backend.is_rtx and gpu.target not in backend.known_targets():
            raise BackendError(f"{backend.title} {backend.version} does not know the GPU here, {gpu.name} ({gpu.target}); use tensorrt.")
        return gpu.target
    remedy = "name the GPUs to build for, such as sm86 sm89" if backend.is_rtx else "build on the target, or here with tensorrt-rtx"
    raise BackendError(f"{backend.title} needs an NVIDIA GPU to build for the current one, and there is {driver.problem}; {remedy}.")


def _notes(job: Job, precision: str) -> tuple[str, ...]:
    if precision == INT8 and job.backend.is_rtx:
        return ("TensorRT-RTX has no INT8 convolutions, so this engine gains nothing over fp16, the precision to use there.",)
    return ()


def _lines(log: Log) -> tuple[str, ...]:
    return (*(f"warning: {m}" for m in log.warnings), *(f"error: {m}" for m in log.errors))
