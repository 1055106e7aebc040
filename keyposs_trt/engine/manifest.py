"""The manifest beside each plan: what it was built from, for what, and how to build it again.

A plan says nothing of itself and runs under one exact TensorRT version on the GPUs it was built for; anything else ends in a
bare None from TensorRT. So ``NAME.plan`` comes with ``NAME.plan.json``, which is read and checked before TensorRT sees the plan.
The fields are documented in docs/manifest.md.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.gpu import current_gpu, query_driver
from keyposs_trt.engine.manifest_values import checked_values
from keyposs_trt.engine.plugin_library import find_library
from keyposs_trt.engine.versions import TENSORRT, TENSORRT_RTX, load_backend, version_numbers
from keyposs_trt.errors import BackendError, ModelError
from keyposs_trt.files import atomic_path, read_bytes
from keyposs_trt.graph.contract import PLUGIN_NAME, PLUGIN_VERSION, ModelSpec

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from keyposs_trt.engine.gpu import Gpu

MANIFEST_VERSION = 1
SUFFIX = ".json"
_CHUNK = 1 << 20
_LATER: dict[str, Any] = {"plugin": None, "calibration": None, "measured": None, "engine_types": None, "compatibility": []}


@dataclass(frozen=True)
class Manifest:
    """What is known of a plan; the JSON keys are the field names, plus ``rebuild``.

    Attributes:
        model: the model as it was named to ``build``: a short name or a path.
        onnx_sha256: of the ONNX file.
        plan: file name of the plan.
        plan_sha256: of the plan.
        plan_bytes: size of the plan.
        spec: the model's metadata, see ``keyposs_trt.graph.contract``.
        precision: asked for: fp32, fp16 or int8.
        precision_found: of the convolutions in the typed network; equals ``precision`` in every plan that was kept.
        layers: number of layers by type and by the type of their first output, ``{"CONVOLUTION": {"fp16": 34}}``.
        runtime: ``tensorrt`` or ``tensorrt-rtx``.
        runtime_version: the only version it runs under.
        cuda: CUDA version of the driver it was built with; None where it was built without one.
        platform: where it was built, such as ``linux-x86_64``; TensorRT plans run only there, TensorRT-RTX plans also elsewhere.
        gpu: name of the GPU it was built on; None where it was built without one.
        targets: the GPUs it runs on, as ``sm86``.
        batch: smallest, best and largest number of faces in one call.
        workspace: memory limit of the build in bytes; None for the runtime's own.
        tool: version of keyposs-trt.
        created: UTC, ISO 8601.
        build_seconds: time the build took.
        plugin: ``name``, ``version`` and ``sha256`` of the library of the plugin that the plan needs to run; None for none.
        calibration: of an int8 plan whose Q/DQ nodes were placed at the build: ``file``, ``sha256``, ``method``, ``percentile``,
            ``source``, ``samples``, ``set_sha256``, ``excluded``, ``accuracy``; None where the model brought them along.
        measured: accuracy of the graph at the build, by ONNX Runtime on the CPU: ``data``, ``faces``, ``nme_fp32``, ``nme``, ``drift``,
            ``drift_p99``; None where it was not measured.
        engine_types: convolutions of the finished engine by the type of their input; None where it could not be opened or did not tell.
        compatibility: ``hardware`` and ``version``, as asked for.
        manifest_version: version of this file format.
    """

    model: str
    onnx_sha256: str
    plan: str
    plan_sha256: str
    plan_bytes: int
    spec: ModelSpec
    precision: str
    precision_found: str
    layers: dict[str, dict[str, int]]
    runtime: str
    runtime_version: str
    cuda: str | None
    platform: str
    gpu: str | None
    targets: tuple[str, ...]
    batch: tuple[int, int, int]
    workspace: int | None
    tool: str
    created: str
    build_seconds: float
    plugin: dict[str, str] | None = None  # this and what follows is not in the manifests of the first release
    calibration: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None
    engine_types: dict[str, int] | None = None
    compatibility: tuple[str, ...] = ()
    manifest_version: int = MANIFEST_VERSION

    def rebuild_command(self, folder: str | os.PathLike[str] | None = None, targets: Iterable[str] | None = None) -> str:
        """The command that builds this plan again.

        Args:
            folder: where to; None leaves it to ``build``.
            targets: for other GPUs than this plan was built for.
        """
        words = ["keyposs-trt", "build", self.model, "--precision", self.precision, "--backend", self.runtime]
        if self.runtime == TENSORRT_RTX:
            words += ["--gpu", *(targets or self.targets)]
        words += ["--batch", ":".join(map(str, self.batch))]
        if self.workspace is not None:
            words += ["--workspace", str(self.workspace >> 20)]
        if self.calibration is not None:
            words += ["--calibration", str(self.calibration.get("file"))]
        if self.compatibility:
            words += ["--compatible", *self.compatibility]
        if folder is not None:
            words += ["-o", str(folder)]
        return shlex.join(words)

    def to_json(self, folder: str | os.PathLike[str] | None = None) -> str:
        """The manifest as JSON text; ``folder`` enters the rebuild command."""
        values = {"manifest_version": self.manifest_version, **asdict(self), "rebuild": self.rebuild_command(folder)}
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: object) -> Manifest:
        """Reads a manifest.

        Args:
            text: JSON.
            source: the file, for messages.

        Raises:
            ModelError: it is no manifest, lacks a field, or is of another version.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise ModelError(f"The manifest '{source}' is not JSON; build the engine again with 'keyposs-trt build'.") from e
        if not isinstance(values, dict) or "manifest_version" not in values:
            raise ModelError(f"'{source}' is JSON but no engine manifest; build the engine again with 'keyposs-trt build'.")
        if values["manifest_version"] != MANIFEST_VERSION:
            raise ModelError(
                f"The manifest '{source}' has version {values['manifest_version']}, this keyposs-trt reads version {MANIFEST_VERSION}; "
                "build the engine again with this keyposs-trt, or install the one that wrote it."
            )
        try:
            return cls(**checked_values(cls, {f.name: {**_LATER, **values}[f.name] for f in fields(cls)}))
        except KeyError as e:
            raise ModelError(f"The manifest '{source}' lacks {e}; build the engine again with 'keyposs-trt build'.") from None
        except (TypeError, ValueError, ModelError) as e:
            raise ModelError(
                f"The manifest '{source}' is damaged ({str(e).rstrip('.')}); build the engine again with 'keyposs-trt build'."
            ) from e


def manifest_path(plan: str | os.PathLike[str]) -> Path:
    """Where the manifest of a plan lies: its name with ``.json`` added."""
    path = Path(plan)
    return path.with_name(path.name + SUFFIX)


def read_manifest(plan: str | os.PathLike[str]) -> Manifest:
    """The manifest beside a plan.

    Raises:
        ModelError: there is none, or it cannot be read as one.
    """
    path = manifest_path(plan)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"The engine '{plan}' has no manifest '{path.name}' beside it; copy both files together, "
            "or build the engine again with 'keyposs-trt build'."
        ) from None
    except OSError as e:
        raise ModelError(f"Cannot read the manifest '{path}': {e.strerror or e}; check its permissions.") from e
    return Manifest.from_json(text, path)


def write_plan(path: Path, data: Any, manifest: Manifest) -> None:
    """Writes plan and manifest aside and renames both, the manifest last: one without the other never passes ``check_file``.

    Raises:
        OutputError: the folder cannot be written.
    """
    with atomic_path(manifest_path(path)) as aside, atomic_path(path) as plan_aside:
        plan_aside.write_bytes(data)
        aside.write_text(manifest.to_json(path.parent))


def open_plan(plan: str | os.PathLike[str]) -> tuple[Manifest, bytes]:
    """Reads a plan and makes sure that it is whole and made for this machine, before TensorRT sees it.

    Returns:
        its manifest and its bytes.

    Raises:
        InputError: the plan cannot be read.
        ModelError: the manifest is missing or damaged, the plan is not the one it describes, or plan and machine differ in
            runtime version, platform or GPU; the message names both sides and the command that builds the plan again.
        BackendError: the runtime or the plugin library that the plan needs is not here.
    """
    manifest = read_manifest(plan)
    data = check_file(plan, manifest)
    check_machine(plan, manifest, load_backend(manifest.runtime).version, current_gpu())
    if manifest.plugin is not None:
        check_plugin(plan, manifest)
    return manifest, data


def check(plan: str | os.PathLike[str]) -> Manifest:
    """As ``open_plan``, for those who want to know only."""
    return open_plan(plan)[0]


def check_file(plan: str | os.PathLike[str], manifest: Manifest) -> bytes:
    """Makes sure that a plan is, byte for byte, the one its manifest describes.

    Returns:
        the plan.

    Raises:
        InputError: it cannot be read.
        ModelError: size or SHA-256 differ.
    """
    data = read_bytes(plan, "engine")
    again = f"copy it again, or build it again: {manifest.rebuild_command(Path(plan).parent)}"
    if len(data) != manifest.plan_bytes:
        raise ModelError(f"The engine '{plan}' has {len(data)} bytes, its manifest says {manifest.plan_bytes}; {again}")
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.plan_sha256:
        raise ModelError(
            f"The engine '{plan}' is not the one its manifest describes (SHA-256 {found[:12]}..., "
            f"manifest {manifest.plan_sha256[:12]}...); {again}"
        )
    return data


def check_machine(plan: object, manifest: Manifest, runtime_version: str, gpu: Gpu | None) -> None:
    """Makes sure that a plan and a machine fit.

    Args:
        plan: its path, for messages.
        manifest: of the plan.
        runtime_version: of the installed runtime that the manifest names.
        gpu: of the machine; None is let pass, since the runner has its own sentence for a machine without one.

    Raises:
        ModelError: they differ; the message names both sides and the command that builds the plan again.
    """
    title = "TensorRT-RTX" if manifest.runtime == TENSORRT_RTX else "TensorRT"
    folder = Path(str(plan)).parent
    again = f"build it again here: {manifest.rebuild_command(folder)}"
    if manifest.runtime == TENSORRT and manifest.platform != this_platform():
        raise ModelError(f"The engine '{plan}' was built on {manifest.platform}, this machine is {this_platform()}; {again}")
    if manifest.runtime_version != runtime_version and not _newer_will_do(manifest, runtime_version):
        raise ModelError(
            f"The engine '{plan}' was built with {title} {manifest.runtime_version}, this machine has {title} {runtime_version}; {again}"
        )
    if gpu is not None and gpu.target not in manifest.targets and not ("hardware" in manifest.compatibility and gpu.capability >= (8, 0)):
        again = f"build it again: {manifest.rebuild_command(folder, [gpu.target])}"
        raise ModelError(
            f"The engine '{plan}' was built for {', '.join(manifest.targets)}, the GPU here is {gpu.name} ({gpu.target}); {again}"
        )


def check_plugin(plan: object, manifest: Manifest) -> None:
    """Makes sure that the plugin a plan needs is here, in its version.

    Raises:
        ModelError: the plan needs another plugin or version.
        BackendError: there is no plugin library.
    """
    needed = (manifest.plugin or {}).get("name"), (manifest.plugin or {}).get("version")
    if needed != (PLUGIN_NAME, PLUGIN_VERSION):
        again = f"build it again here: {manifest.rebuild_command(Path(str(plan)).parent)}"
        raise ModelError(
            f"The engine '{plan}' needs the plugin {needed[0]} {needed[1]}, this keyposs-trt has {PLUGIN_NAME} {PLUGIN_VERSION}; {again}"
        )
    find_library()


def require_gpu(path: str | os.PathLike[str], manifest: Manifest) -> None:
    """Says what to do with a plan on a machine without a GPU.

    Raises:
        BackendError: there is none.
    """
    driver = query_driver()
    if driver.gpus:
        return
    instead = f"run the ONNX model with the CPU backend instead: keyposs-trt run SOURCE --model {manifest.model} --backend onnxruntime"
    if manifest.plugin is not None:
        instead = f"for the CPU, give the model a decoder of standard operators: keyposs-trt export {manifest.model} --decoder onnx"
    raise BackendError(f"The engine '{path}' needs an NVIDIA GPU, and there is {driver.problem}; {instead}")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def this_platform() -> str:
    """Operating system and processor: ``linux-x86_64``, ``linux-aarch64``."""
    return f"{sys.platform}-{platform.machine().lower()}"


def _newer_will_do(manifest: Manifest, runtime_version: str) -> bool:
    """Whether the plan is version-compatible and the runtime is no older than the one that built it."""
    return "version" in manifest.compatibility and version_numbers(runtime_version) >= version_numbers(manifest.runtime_version)
