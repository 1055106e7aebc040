"""From a model to the bytes of one plan: the graph in its precision, parsed, proven, built."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine.inspector import inspect_engine, prove_engine
from keyposs_trt.engine.log import Log, parser_sentence
from keyposs_trt.engine.plugin_library import find_library, load_library, needs_plugin, refuse_plugins
from keyposs_trt.engine.precision import FP16, INT8, count_layers, prove_precision
from keyposs_trt.engine.progress import Steps
from keyposs_trt.errors import BackendError, BuildError, OutputError
from keyposs_trt.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from keyposs_trt.engine.gpu import Driver
    from keyposs_trt.engine.progress import Progress
    from keyposs_trt.engine.versions import Backend
    from keyposs_trt.graph.calibration_file import Calibration
    from keyposs_trt.graph.contract import ModelSpec

# How TensorRT's Python API refuses a cache of another driver or GPU.
_CACHE_ERRORS = (RuntimeError, SystemError, TypeError)


@dataclass(frozen=True)
class Job:
    """One model to build, and how.

    Attributes:
        model: as the user named it.
        path: its ONNX file.
        graph, spec, onnx_sha256: of the file.
        folder: of the plans.
        backend: the runtime.
        driver: what the CUDA driver says.
        targets: GPUs to build for.
        batch: smallest, best and largest number of faces.
        workspace: scratch memory in bytes; None for half of what the GPU has free.
        compatibility: any of ``hardware`` and ``version``.
        calibration, calibration_path: ranges for INT8 and their file; None for a model that holds Q/DQ nodes, or none needed.
        title: what progress is told under, before the precision; may be empty.
        progress: told of phases and steps.
    """

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
    compatibility: tuple[str, ...] = ()
    calibration: Calibration | None = None
    calibration_path: Path | None = None
    title: str = ""
    progress: Progress | None = None


@dataclass(frozen=True)
class Compiled:
    """A plan.

    Attributes:
        plan: its bytes.
        graph: what TensorRT parsed, in its precision.
        precision: of the convolutions in the typed network.
        layers: counts by type and data type.
        plugin: the plugin that it needs; None for none.
        engine_types: convolutions of the finished engine by type; None where it could not be opened here.
    """

    plan: bytes
    graph: onnx.ModelProto
    precision: str
    layers: dict[str, dict[str, int]]
    plugin: dict[str, str] | None
    engine_types: dict[str, int] | None


def compile_plan(job: Job, precision: str, log: Log) -> Compiled:
    """Builds one plan.

    Raises:
        BuildError: the graph cannot be had in this precision, or TensorRT refuses it.
        BackendError: TensorRT does not start, or the plugin's library is missing.
    """
    steps = Steps(f"{job.title} {precision}".strip(), job.progress)
    steps.phase("Preparing the graph")
    graph = typed_graph(job, precision)
    backend = job.backend
    builder = backend.trt.Builder(log.logger)
    if builder is None:
        raise BackendError(f"{backend.title} does not start: {log.reason}.")
    plugin = load_library(backend, log) if needs_plugin(job.graph) else None
    network = backend.create_network(builder)
    parser = backend.trt.OnnxParser(network, log.logger)
    steps.phase("Parsing the graph")
    if not parser.parse(graph.SerializeToString()):
        raise BuildError(parser_sentence(backend.title, job.model, parser))
    found = prove_precision(network, precision, job.model)
    config = builder.create_builder_config()
    backend.configure(config, job.targets, _workspace(job), job.compatibility)
    embedded = plugin is not None and "version" in job.compatibility
    if embedded:
        config.plugins_to_serialize = [str(find_library())]
    _add_profile(job, builder, network, config)
    cache = _TimingCache(job)
    cache.put_into(config)
    monitor = steps.monitor(backend)
    if monitor is not None:
        config.progress_monitor = monitor
    steps.phase("Building the engine")
    plan = steps.run(lambda: builder.build_serialized_network(network, config))
    if plan is None:
        raise BuildError(f"{backend.title} could not build '{job.model}' in {precision}: {log.reason}.")
    cache.keep(config)
    data = bytes(plan)
    types = inspect_engine(backend, data, log, embedded) if job.driver.gpus and not backend.is_rtx else None
    prove_engine(types, precision, job.model)
    return Compiled(data, graph, found, count_layers(network), plugin, types)


def typed_graph(job: Job, precision: str) -> onnx.ModelProto:
    """The model with the network in its precision, ready for a strongly typed network.

    Raises:
        BuildError: int8 without ranges, weights that are no numbers, or a plugin for TensorRT-RTX.
        ModelError: the calibration is of another network.
    """
    from keyposs_trt.graph import expand_weights, is_quantised, to_fp16
    from keyposs_trt.graph.calibration_file import quantise_by

    _refuse_broken_weights(job.graph, job.model)
    if job.backend.is_rtx:
        refuse_plugins(job.graph, job.model)
    if precision == INT8 and not is_quantised(job.graph):
        if job.calibration is None:
            advice = "; for TensorRT-RTX build fp16 instead: it has no INT8 convolutions" if job.backend.is_rtx else ""
            raise BuildError(
                f"An int8 engine needs Q/DQ nodes in the model, or ranges for them, and '{job.model}' has neither: "
                f"measure them with 'keyposs-trt calibrate {job.model} --data IMAGES', then build the result{advice}."
            )
        return quantise_by(job.graph, job.calibration, job.model, job.calibration_path)
    return to_fp16(job.graph) if precision == FP16 else expand_weights(job.graph)


def _refuse_broken_weights(model: onnx.ModelProto, name: str) -> None:
    from onnx import numpy_helper

    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        # One number may be infinite: "no bound" of a Clip or a mask.
        if values.dtype.kind == "f" and (np.isnan(values).any() or (values.size > 1 and not np.isfinite(values).all())):
            raise BuildError(f"The weight '{weight.name}' of '{name}' holds values that are no numbers; export or train the model again.")


def _workspace(job: Job) -> int | None:
    """The limit asked for, or half of the memory that is free on the GPU: on a Jetson that is everybody's memory."""
    if job.workspace is not None or job.backend.is_rtx:
        return job.workspace
    from keyposs_trt.engine.gpu import free_memory

    free = free_memory()
    return None if free is None else max(free // 2 >> 20, 1) << 20


def _add_profile(job: Job, builder: Any, network: Any, config: Any) -> None:
    """The range of batch sizes the engine takes."""
    image = network.get_input(0)
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *((n, *tuple(image.shape)[1:]) for n in job.batch))
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"{job.backend.title} takes no batch of {':'.join(map(str, job.batch))}; choose another --batch MIN:BEST:MAX.")


class _TimingCache:
    """TensorRT's measured times of kernels, kept beside the plans: the next precision, heatmap size or build need not measure them again.

    It is a help and no result: whatever goes wrong with it, the build goes on. Not for TensorRT-RTX, which measures nothing at build time
    and asks for a GPU when it is given one.
    """

    def __init__(self, job: Job) -> None:
        backend = job.backend
        name = f".timing_{backend.version}_{'_'.join(job.targets)}.cache"
        self._path = None if backend.is_rtx or not job.driver.gpus else job.folder / name

    def put_into(self, config: Any) -> None:
        if self._path is None:
            return
        data = b""
        with suppress(OSError):
            data = self._path.read_bytes()
        with suppress(*_CACHE_ERRORS):
            config.set_timing_cache(config.create_timing_cache(data), False)

    def keep(self, config: Any) -> None:
        if self._path is None:
            return
        with suppress(*_CACHE_ERRORS, OutputError):
            cache = config.get_timing_cache()
            if cache is not None:
                with atomic_path(self._path) as aside:
                    aside.write_bytes(bytes(cache.serialize()))
