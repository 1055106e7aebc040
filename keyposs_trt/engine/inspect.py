"""What a file is and whether it runs here: ONNX models, plans, manifests, calibrations, checkpoints.

Files are told apart by their content; the suffix decides only where content cannot (a plan of an unknown runtime).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.manifest import SUFFIX, Manifest, manifest_path, open_plan, read_manifest, require_gpu
from keyposs_trt.engine.runner import PLAN_SUFFIXES
from keyposs_trt.errors import KeypossError, ModelError
from keyposs_trt.files import read_bytes
from keyposs_trt.graph.calibration_file import FORMAT as CALIBRATION
from keyposs_trt.graph.calibration_file import read_calibration

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_HEAD = 64
_ZIP, _PICKLE, _ONNX_IR_VERSION = b"PK\x03\x04", b"\x80", b"\x08"
_PLAN_TAG, _PLAN_VERSION = b"trt\0\0\0\0", slice(24, 28)  # of the header: the tag after its first letter, and four version numbers


def inspect_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Explains a file.

    Args:
        path: the file, or the short name of a shipped model (which goes before a file of that name).

    Returns:
        ``file``, ``kind`` (onnx, plan, manifest, calibration, checkpoint, safetensors), ``bytes``, ``runs_here`` with the ``reason``
        where it does not, and what there is to say of the kind; everything fits into JSON.

    Raises:
        InputError: the file is missing, empty, a folder or not readable.
        ModelError: it is none of these kinds, or damaged beyond an explanation.
    """
    from keyposs_trt.models import model_names, resolve

    path = resolve(str(path)) if str(path) in model_names() else Path(path)
    kind, explain = _kind(path, read_bytes(path, "file", _HEAD))
    return {"file": str(path), "kind": kind, "bytes": path.stat().st_size, **explain(path)}


def _kind(path: Path, head: bytes) -> tuple[str, Callable[[Path], dict[str, Any]]]:
    suffix = path.suffix.lower()
    if head[1:8] == _PLAN_TAG or suffix in PLAN_SUFFIXES:
        return "plan", _explain_plan
    if head.lstrip()[:1] == b"{":
        is_calibration = CALIBRATION.encode() in head
        return ("calibration", _explain_calibration) if is_calibration else ("manifest", _explain_manifest)
    if suffix == ".safetensors":
        from keyposs_trt.engine.inspect_checkpoint import explain_safetensors

        return "safetensors", explain_safetensors
    if head.startswith((_ZIP, _PICKLE)):
        from keyposs_trt.engine.inspect_checkpoint import explain_checkpoint

        return "checkpoint", explain_checkpoint
    if suffix == ".onnx" or head.startswith(_ONNX_IR_VERSION):
        from keyposs_trt.engine.inspect_onnx import explain_onnx

        return "onnx", explain_onnx
    raise ModelError(
        f"'{path}' is nothing this toolkit knows; give an ONNX model, an engine (.plan), its manifest (.plan.json), "
        "a calibration (.calibration.json) or a checkpoint (.ckpt, .pt, .safetensors)."
    )


def _explain_plan(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"written_by": _plan_version(read_bytes(path, "file", _HEAD))}
    try:
        found["manifest"] = asdict(read_manifest(path))
    except ModelError as e:
        return {**found, "manifest": None, "runs_here": False, "reason": str(e)}
    return {**found, **runs_plan(path)}


def _explain_calibration(path: Path) -> dict[str, Any]:
    c = read_calibration(path)
    facts = (
        "model",
        "network_sha256",
        "method",
        "percentile",
        "source",
        "samples",
        "set_sha256",
        "excluded",
        "accuracy",
        "tool",
        "created",
    )
    found = {key: getattr(c, key) for key in facts}
    found |= {"ranges": len(c.ranges), "corrections": len(c.corrections), "histograms": len(c.histograms)}
    return {
        **found,
        "runs_here": False,
        "reason": f"It holds ranges for an engine: keyposs-trt build {c.model} --precision int8 --calibration {path}",
    }


def _explain_manifest(path: Path) -> dict[str, Any]:
    manifest = Manifest.from_json(path.read_bytes(), path)
    plan = path.with_name(manifest.plan)
    found = {"manifest": asdict(manifest), "plan": str(plan)}
    if manifest_path(plan) != path:
        expected = f"{manifest.plan}{SUFFIX}"
        return {**found, "runs_here": False, "reason": f"A manifest lies beside its plan as '{expected}'; rename '{path.name}'."}
    if not plan.exists():
        again = manifest.rebuild_command(path.parent)
        return {**found, "runs_here": False, "reason": f"The plan '{plan}' is missing; copy it here, or build it again: {again}"}
    return {**found, **runs_plan(plan)}


def runs_plan(path: Path) -> dict[str, Any]:
    """``runs_here`` and, where it does not, the ``reason``, as the runner would say it."""
    if path.suffix.lower() not in PLAN_SUFFIXES:
        endings = " or ".join(PLAN_SUFFIXES)
        return {"runs_here": False, "reason": f"The name of an engine ends in {endings}; rename '{path.name}', and its manifest with it."}
    try:
        manifest, _ = open_plan(path)
        require_gpu(path, manifest)
    except KeypossError as e:
        return {"runs_here": False, "reason": str(e)}
    return {"runs_here": True}


def _plan_version(head: bytes) -> str | None:
    """Version in a plan's header: four bytes major, minor, patch, build; None for a header of another kind."""
    return ".".join(str(n) for n in head[_PLAN_VERSION]) if head[1:8] == _PLAN_TAG else None
