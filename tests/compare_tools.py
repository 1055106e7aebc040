"""What the tests of comparisons share: calibrations and engines that no runtime has seen."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from keyposs_trt.engine.manifest import Manifest, sha256_of, this_platform, write_plan
from keyposs_trt.engine.onnx_file import load_onnx
from keyposs_trt.graph.calibration_file import Calibration, network_sha256, write_calibration
from keyposs_trt.graph.placement import place
from keyposs_trt.graph.qdq import network_of

if TYPE_CHECKING:
    from pathlib import Path


def calibration(model: Path, path: Path, largest: float = 1.0) -> Path:
    """A calibration of the tiny model, whose activations reach to about 1; a smaller ``largest`` cuts them off."""
    graph = onnx.load(model)
    ranges = dict.fromkeys(place(network_of(graph).graph).tensors, largest)
    write_calibration(Calibration("tiny", network_sha256(graph), "minmax", None, "spots", 4, "0" * 64, ranges), path)
    return path


def engine(model: Path, plan: Path, precision: str = "fp16", ranges: Path | None = None, runtime: str = "tensorrt-rtx") -> Path:
    """A file that is no plan, with the manifest of one that was built from a model."""
    data = b"no plan"
    about = None if ranges is None else {"file": str(ranges), "sha256": sha256_of(ranges), "method": "minmax"}
    manifest = Manifest(
        model=str(model),
        onnx_sha256=sha256_of(model),
        plan=plan.name,
        plan_sha256=hashlib.sha256(data).hexdigest(),
        plan_bytes=len(data),
        spec=replace(load_onnx(model)[1]),
        precision=precision,
        precision_found=precision,
        layers={},
        runtime=runtime,
        runtime_version="1.0",
        cuda=None,
        platform=this_platform(),
        gpu=None,
        targets=("sm86",),
        batch=(1, 4, 16),
        workspace=None,
        tool="keyposs-trt 0",
        created="2026-01-01T00:00:00+00:00",
        build_seconds=1.0,
        calibration=about,
    )
    write_plan(plan, data, manifest)
    return plan
