"""Real TensorRT-RTX builds of a tiny model: what is written, and what is left of a build that stops. No GPU is needed."""

from __future__ import annotations

import hashlib
import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from build_tools import edited, names
from model_zoo import tiny_model

from keyposs_trt.engine import build as module
from keyposs_trt.engine.build import BuildResult, build_engine
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.manifest import check_file, read_manifest
from keyposs_trt.errors import BuildError, ModelError
from keyposs_trt.models import resolve

if TYPE_CHECKING:
    from pathlib import Path

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.rtx


@pytest.fixture(scope="session")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("whole") / "tiny.onnx", points=5, heatmap_size=16, input_size=32)


@pytest.fixture(scope="session")
def built(whole_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BuildResult]:
    results = build_engine(whole_model, tmp_path_factory.mktemp("engines") / "new", backend="tensorrt-rtx", batch=(1, 2, 8))
    return {r.precision: r for r in results}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_plan_and_manifest(built, whole_model, precision):
    result = built[precision]
    assert result.error is None
    assert result.plan.name == f"tiny_{precision}_tensorrt-rtx.plan"
    m = read_manifest(result.plan)
    assert m == result.manifest
    assert check_file(result.plan, m) == result.plan.read_bytes()
    assert m.plan_bytes == result.plan.stat().st_size > 10_000
    assert (m.precision, m.precision_found) == (precision, precision)
    assert m.layers["CONVOLUTION"] == {precision: 3}
    assert (m.spec.name, m.spec.points, m.spec.input_size, m.spec.decoder) == ("tiny", 5, 32, "wls")
    assert m.onnx_sha256 == hashlib.sha256(whole_model.read_bytes()).hexdigest()
    assert (m.runtime, m.runtime_version) == ("tensorrt-rtx", trt.__version__)
    assert (m.targets, m.batch) == (("sm86", "sm89", "sm120"), (1, 2, 8))


def test_nothing_but_plans_and_manifests(built):
    folder = built["fp32"].plan.parent
    plans = [f"tiny_{p}_tensorrt-rtx.plan" for p in ("fp16", "fp32")]
    assert names(folder) == sorted([*plans, *(p + ".json" for p in plans)])


def test_targets_and_workspace_reach_the_plan(model, tmp_path):
    (result,) = build_engine(model, tmp_path, precision="fp16", backend="tensorrt-rtx", gpu="sm120", workspace=256 << 20)
    m = result.manifest
    assert (m.targets, m.workspace) == (("sm120",), 256 << 20)
    assert "--gpu sm120 --batch 1:4:16 --workspace 256" in m.rebuild_command()


def test_progress_shows_our_phases_and_steps_of_tensorrt(model, tmp_path):
    seen: list[tuple[str, str, int, int]] = []
    build_engine(model, tmp_path, precision="fp16", backend="tensorrt-rtx", progress=lambda *step: seen.append(step))
    assert [phase for _, phase, _, total in seen if total == 0] == ["Preparing the graph", "Parsing the graph", "Building the engine"]
    steps = [(done, total) for _, _, done, total in seen if total]
    assert len(steps) > 10
    assert all(0 <= done <= total for done, total in steps)
    assert {precision for precision, *_ in seen} == {"fp16"}


def test_a_failed_precision_does_not_stop_the_others(model, tmp_path):
    first, second = build_engine(model, tmp_path, precision=("int8", "fp32"), backend="tensorrt-rtx")
    assert isinstance(first.error, BuildError)
    assert (first.plan, first.manifest) == (None, None)
    assert "needs Q/DQ nodes in the model" in str(first.error)
    assert "build fp16 instead" in str(first.error)
    assert second.error is None
    assert len(names(tmp_path)) == 2


def test_quantised_model_is_int8_and_nothing_else(model, tmp_path):
    path = edited(model, tmp_path / "q.onnx", quantise)
    out = tmp_path / "out"
    int8, fp32 = build_engine(path, out, precision=("int8", "fp32"), backend="tensorrt-rtx")
    assert int8.error is None
    assert int8.manifest.precision_found == "int8"
    assert "fp16" in int8.notes[0]
    assert "fp32 was asked for, but the convolutions of" in str(fp32.error)
    assert "are int8" in str(fp32.error)
    assert names(out) == ["q_int8_tensorrt-rtx.plan", "q_int8_tensorrt-rtx.plan.json"]


def quantise(proto: Any) -> None:
    """Puts Q/DQ pairs on both inputs of every convolution."""
    graph = proto.graph
    graph.initializer.extend([onnx.numpy_helper.from_array(np.float32(0.01), "qs"), onnx.numpy_helper.from_array(np.int8(0), "qz")])
    nodes = []
    for node in graph.node:
        if node.op_type == "Conv":
            for i in (0, 1):
                name = f"{node.name}_{i}"
                nodes.append(onnx.helper.make_node("QuantizeLinear", [node.input[i], "qs", "qz"], [name + "_q"]))
                nodes.append(onnx.helper.make_node("DequantizeLinear", [name + "_q", "qs", "qz"], [name + "_dq"]))
                node.input[i] = name + "_dq"
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)


def test_precision_that_is_not_there_is_an_error(model, tmp_path, monkeypatch):
    monkeypatch.setattr("keyposs_trt.graph.to_fp16", lambda proto: proto)
    (result,) = build_engine(model, tmp_path, precision="fp16", backend="tensorrt-rtx")
    assert "fp16 was asked for, but the convolutions of" in str(result.error)
    assert "are fp32" in str(result.error)
    assert names(tmp_path) == []


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_interrupted_build_leaves_nothing(model, tmp_path, how):
    interrupts = []

    def interrupt(precision: str, phase: str, done: int, total: int) -> None:
        if total and not interrupts:
            interrupts.append(phase)
            if how == "exception":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engine(model, tmp_path, backend="tensorrt-rtx", progress=interrupt)
    assert interrupts
    assert names(tmp_path) == []


def test_error_in_progress_is_passed_on(model, tmp_path):
    def fail(precision: str, phase: str, done: int, total: int) -> None:
        if total:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        build_engine(model, tmp_path, backend="tensorrt-rtx", progress=fail)
    assert names(tmp_path) == []


def test_killed_between_the_renames_is_found(built, tmp_path):
    """A new plan beside the old manifest: what is left if the power fails between the two renames."""
    old = built["fp32"]
    plan = tmp_path / old.plan.name
    plan.write_bytes(built["fp16"].plan.read_bytes())
    with pytest.raises(ModelError):
        check_file(plan, old.manifest)


def test_current_gpu_becomes_its_name(model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "query_driver", lambda: Driver("13.0", (Gpu("NVIDIA GeForce RTX 4070", (8, 9)),)))
    (result,) = build_engine(model, tmp_path, precision="fp16", gpu="current", backend="tensorrt-rtx")
    assert (result.manifest.targets, result.manifest.gpu) == (("sm89",), "NVIDIA GeForce RTX 4070")


def test_shipped_model(tmp_path):
    path = resolve(None)
    results = build_engine(None, tmp_path, backend="tensorrt-rtx")
    assert [r.error for r in results] == [None, None]
    sizes = {}
    for result in results:
        m = read_manifest(result.plan)
        check_file(result.plan, m)
        assert m.model == path.stem
        assert m.precision_found == m.precision == result.precision
        assert m.layers["CONVOLUTION"].keys() == {result.precision}
        sizes[m.precision] = m.plan_bytes
    assert 1_000_000 < sizes["fp16"] < sizes["fp32"] < 20_000_000
