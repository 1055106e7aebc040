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

from keyposs_trt.engine.gpu import query_driver
from keyposs_trt.engine.log import Log, parser_sentence
from keyposs_trt.engine.manifest import Manifest, sha256_of, this_platform, write_plan
from keyposs_trt.engine.onnx_file import load_onnx
from keyposs_trt.engine.plugin_library import find_library, load_library, needs_plugin, refuse_plugins
from keyposs_trt.engine.precision import FP16, FP32, INT8, PRECISIONS, count_layers, prove_precision
from keyposs_trt.engine.progress import Steps
from keyposs_trt.engine.versions import CURRENT, load_backend
from keyposs_trt.errors import BackendError, BuildError, KeypossError, OutputError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import onnx

    from keyposs_trt.engine.gpu import Driver
    from keyposs_trt.engine.progress import Progress
    from keyposs_trt.engine.versions import Backend
    from keyposs_trt.graph.contract import ModelSpec

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
    """

    precision: str
    plan: Path | None
    manifest: Manifest | None
    error: KeypossError | None
    seconds: float
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """What all precisions of one call share."""

    model: str
    path: Path
    graph: onnx.ModelProto
    spec: ModelSpec
    onnx_sha256: str
    folder: Path
    backend: Backend
    driver: Driver
    targets: tuple[str, ...]
    batch: tuple[int, int, int]
    workspace: int | None
    progress: Progress | None


def build_engine(
    model: str | os.PathLike[str] | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    *,
    precision: str | Sequence[str] = (FP32, FP16),
    backend: str = "auto",
    gpu: str | Sequence[str] | None = None,
    batch: tuple[int, int, int] = DEFAULT_BATCH,
    workspace: int | None = None,
    progress: Progress | None = None,
) -> list[BuildResult]:
    """Builds one engine a precision: ``NAME_PRECISION_BACKEND.plan`` and its manifest ``....plan.json``.

    Args:
        model: an ONNX file or the short name of a shipped model; None for the default model.
        out_dir: folder of the plans, made if need be; None for ``engines`` in the current folder.
        precision: ``fp32``, ``fp16``, or ``int8`` for a model that carries Q/DQ nodes.
        backend: ``tensorrt``, ``tensorrt-rtx``, or ``auto`` for the first of both that is installed.
        gpu: compute capabilities such as ``sm86`` (TensorRT-RTX), or ``current``; None for the backend's default: sm86, sm89 and
            sm120 with TensorRT-RTX, which needs no GPU to build for them, and the GPU of this machine with TensorRT.
        batch: smallest, best and largest number of faces in one call.
        workspace: memory the build may use for scratch space, in bytes; None for the runtime's own limit.
        progress: called with precision, phase, steps done and steps in the phase, from another thread; the toolkit's own phases have
            0 steps, TensorRT's have some.

    Returns:
        one result a precision, in the order asked for; one that failed has ``error`` set, and the others are built all the same.

    Raises:
        UsageError: an argument that makes no sense.
        InputError, ModelError: the model cannot be read or is not one of this toolkit.
        BackendError: the runtime is missing, it needs a GPU and there is none, or the model needs a plugin whose library is not here.
        OutputError: the folder cannot be made.
    """
    from keyposs_trt.models import resolve

    precisions = _check_precisions([precision] if isinstance(precision, str) else precision)
    _check_numbers(batch, workspace)
    runtime = load_backend(backend)
    targets = runtime.check_targets([gpu] if isinstance(gpu, str) else gpu)
    driver = query_driver()
    if CURRENT in targets:
        targets = (_gpu_at_hand(runtime, driver),)
    path = resolve(model)
    graph, spec = load_onnx(path)
    if needs_plugin(graph) and not runtime.is_rtx:
        find_library()  # better told before the first build than after
    job = _Job(
        model=path.stem if model is None else str(model),
        path=path,
        graph=graph,
        spec=spec,
        onnx_sha256=sha256_of(path),
        folder=_make_folder(DEFAULT_FOLDER if out_dir is None else out_dir),
        backend=runtime,
        driver=driver,
        targets=targets,
        batch=batch,
        workspace=workspace,
        progress=progress,
    )
    return [_build_one(job, p) for p in precisions]


def _build_one(job: _Job, precision: str) -> BuildResult:
    """One engine; errors become part of the result."""
    start = time.perf_counter()
    log = Log(job.backend)
    plan = job.folder / f"{job.path.stem}_{precision}_{job.backend.name}.plan"
    try:
        compiled = _compile(job, precision, log)
        seconds = time.perf_counter() - start
        manifest = _describe(job, precision, compiled, plan, seconds)
        write_plan(plan, compiled.plan, manifest)
    except KeypossError as e:
        return BuildResult(precision, None, None, e, time.perf_counter() - start, log=_lines(log))
    return BuildResult(precision, plan, manifest, None, seconds, notes=_notes(job, precision), log=_lines(log))


@dataclass(frozen=True)
class _Compiled:
    """A plan's bytes, the precision found, the layer counts, and the plugin it needs."""

    plan: bytes
    precision: str
    layers: dict[str, dict[str, int]]
    plugin: dict[str, str] | None


def _compile(job: _Job, precision: str, log: Log) -> _Compiled:
    steps = Steps(precision, job.progress)
    steps.phase("Preparing the graph")
    source = _typed_graph(job, precision).SerializeToString()
    backend = job.backend
    builder = backend.trt.Builder(log.logger)
    if builder is None:
        raise BackendError(f"{backend.title} does not start: {log.reason}.")
    plugin = load_library(backend, log) if needs_plugin(job.graph) else None
    network = backend.create_network(builder)
    parser = backend.trt.OnnxParser(network, log.logger)
    steps.phase("Parsing the graph")
    if not parser.parse(source):
        raise BuildError(parser_sentence(backend.title, job.model, parser))
    found = prove_precision(network, precision, job.model)
    config = builder.create_builder_config()
    backend.configure(config, job.targets, job.workspace)
    _add_profile(job, builder, network, config)
    monitor = steps.monitor(backend)
    if monitor is not None:
        config.progress_monitor = monitor
    steps.phase("Building the engine")
    plan = steps.run(lambda: builder.build_serialized_network(network, config))
    if plan is None:
        raise BuildError(f"{backend.title} could not build '{job.model}' in {precision}: {log.reason}.")
    return _Compiled(bytes(plan), found, count_layers(network), plugin)


def _typed_graph(job: _Job, precision: str) -> onnx.ModelProto:
    """The model with its weights in fp32 or fp16, ready for a strongly typed network."""
    from keyposs_trt.graph import expand_weights, to_fp16

    quantised = any(node.op_type == "QuantizeLinear" for node in job.graph.graph.node)
    if precision == INT8 and not quantised:
        advice = "; for TensorRT-RTX build fp16 instead: it has no INT8 convolutions" if job.backend.is_rtx else ""
        raise BuildError(
            f"An int8 engine needs Q/DQ nodes in the model, and '{job.model}' has none: "
            f"quantise it first (ONNX Runtime: quantize_static with QuantFormat.QDQ), then build the result{advice}."
        )
    if job.backend.is_rtx:
        refuse_plugins(job.graph, job.model)
    return to_fp16(job.graph) if precision == FP16 else expand_weights(job.graph)


def _add_profile(job: _Job, builder: Any, network: Any, config: Any) -> None:
    """The range of batch sizes the engine takes."""
    image = network.get_input(0)
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *((n, *tuple(image.shape)[1:]) for n in job.batch))
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"{job.backend.title} takes no batch of {':'.join(map(str, job.batch))}; choose another --batch MIN:BEST:MAX.")


def _describe(job: _Job, precision: str, compiled: _Compiled, plan: Path, seconds: float) -> Manifest:
    from keyposs_trt import __version__

    gpus = job.driver.gpus
    return Manifest(
        model=job.model,
        onnx_sha256=job.onnx_sha256,
        plan=plan.name,
        plan_sha256=hashlib.sha256(compiled.plan).hexdigest(),
        plan_bytes=len(compiled.plan),
        spec=job.spec,
        precision=precision,
        precision_found=compiled.precision,
        layers=compiled.layers,
        runtime=job.backend.name,
        runtime_version=job.backend.version,
        cuda=job.driver.cuda,
        platform=this_platform(),
        gpu=gpus[0].name if gpus else None,
        targets=job.targets,
        batch=job.batch,
        workspace=job.workspace,
        tool=f"keyposs-trt {__version__}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        build_seconds=round(seconds, 3),
        plugin=compiled.plugin,
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


def _notes(job: _Job, precision: str) -> tuple[str, ...]:
    if precision == INT8 and job.backend.is_rtx:
        return ("TensorRT-RTX has no INT8 convolutions, so this engine gains nothing over fp16, the precision to use there.",)
    return ()


def _lines(log: Log) -> tuple[str, ...]:
    return (*(f"warning: {m}" for m in log.warnings), *(f"error: {m}" for m in log.errors))
