"""Real TensorRT-RTX builds of a tiny model; they need the package but no GPU."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from model_zoo import heatmap_network, tiny_model, tiny_spec

from keyposs_trt.engine import build as module
from keyposs_trt.engine.build import BuildResult, build_engine
from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.manifest import check_file, read_manifest
from keyposs_trt.errors import BackendError, BuildError, InputError, KeypossError, ModelError, OutputError, UsageError
from keyposs_trt.graph import change_decoder, detach_decoder
from keyposs_trt.models import resolve

if TYPE_CHECKING:
    from pathlib import Path

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.rtx

NO_GPU = Driver(None, (), "no NVIDIA driver (libcuda.so.1 not found)")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a decoder, which takes most of a build."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    return tiny_model(path, points=5, heatmap_size=16, input_size=32, decoder="none")


@pytest.fixture(scope="session")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("whole") / "tiny.onnx", points=5, heatmap_size=16, input_size=32)


@pytest.fixture(scope="session")
def built(whole_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BuildResult]:
    results = build_engine(whole_model, tmp_path_factory.mktemp("engines") / "new", backend="tensorrt-rtx", batch=(1, 2, 8))
    return {r.precision: r for r in results}


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "query_driver", lambda: NO_GPU)


def edited(model: Path, path: Path, edit: Any) -> Path:
    """The model with ``edit(graph)`` applied."""
    proto = onnx.load(model)
    edit(proto)
    onnx.save(proto, path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


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


@pytest.mark.parametrize("domain", ["", "keyposs"])
def test_plugin_operators_are_refused_before_parsing(model, tmp_path, domain, monkeypatch):
    def edit(proto: Any) -> None:
        proto.graph.node[-1].op_type = "KeypossMultilateration"
        proto.graph.node[-1].domain = domain

    monkeypatch.setattr(trt, "OnnxParser", None)
    (result,) = build_engine(edited(model, tmp_path / "p.onnx", edit), tmp_path / "out", precision="fp32", backend="tensorrt-rtx")
    assert "'KeypossMultilateration', which is no standard operator" in str(result.error)


def test_our_plugin_is_refused_before_parsing_with_its_remedies(model, tmp_path, monkeypatch):
    monkeypatch.setattr(trt, "OnnxParser", None)
    path = tmp_path / "p.onnx"
    onnx.save(change_decoder(onnx.load(model), "plugin"), path)
    results = build_engine(path, tmp_path / "out", backend="tensorrt-rtx")
    assert [str(r.error) for r in results] == 2 * [
        f"'{path}' decodes with the plugin KeyPosSMultilateration, and TensorRT-RTX takes no plugins; "
        "export the model with --decoder onnx, or build with --backend tensorrt."
    ]
    assert names(tmp_path / "out") == []


def test_parser_error_is_one_sentence(model, tmp_path):
    def edit(proto: Any) -> None:
        (conv,) = (n for n in proto.graph.node if n.name == "stem")
        conv.input[1] = "rows.weight"  # a kernel for another number of channels

    (result,) = build_engine(edited(model, tmp_path / "p.onnx", edit), tmp_path / "out", precision="fp32", backend="tensorrt-rtx")
    assert isinstance(result.error, BuildError)
    assert "\n" not in str(result.error)
    assert "cannot read" in str(result.error)
    assert "Conv" in str(result.error)
    assert result.log
    assert names(tmp_path / "out") == []


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


def test_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Cannot make the folder '.*file/sub'"):
        build_engine(model, tmp_path / "file" / "sub", backend="tensorrt-rtx", progress=pytest.fail)


def test_plan_that_cannot_be_written(model, tmp_path):
    (tmp_path / "tiny_fp32_tensorrt-rtx.plan").mkdir()
    (result,) = build_engine(model, tmp_path, precision="fp32", backend="tensorrt-rtx")
    assert isinstance(result.error, OutputError)
    assert names(tmp_path) == ["tiny_fp32_tensorrt-rtx.plan"]


def test_fixed_batch(model, tmp_path):
    def edit(proto: Any) -> None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 2

    with pytest.raises(ModelError, match="N, 32, 32, 3"):
        build_engine(edited(model, tmp_path / "two.onnx", edit), tmp_path / "out", backend="tensorrt-rtx")


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, KeypossError), (b"", InputError), (b"\x08\x09garbage", ModelError), (b"\x89PNG", ModelError), (bytes(1000), ModelError)],
)
def test_unreadable_model(tmp_path, content, error):
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=r"bad\.onnx"):
        build_engine(path, tmp_path / "out", backend="tensorrt-rtx")
    assert names(tmp_path / "out") == []


def test_truncated_model(model, tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    with pytest.raises(ModelError, match="damaged"):
        build_engine(path, tmp_path / "out", backend="tensorrt-rtx")


def test_foreign_model(tmp_path):
    path = tmp_path / "foreign.onnx"
    onnx.save(heatmap_network(points=2, heatmap_size=8, input_size=16), path)
    with pytest.raises(ModelError, match="without keyposs metadata"):
        build_engine(path, tmp_path / "out", backend="tensorrt-rtx")


def test_metadata_that_promise_other_outputs(model, tmp_path):
    def edit(proto: Any) -> None:
        spec = tiny_spec(points=5, heatmap_size=16, input_size=32)
        onnx.helper.set_model_props(proto, spec.to_metadata())

    with pytest.raises(ModelError, match="by its metadata it gives landmarks, scores, covariance; export"):
        build_engine(edited(model, tmp_path / "m.onnx", edit), tmp_path / "out", backend="tensorrt-rtx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"precision": "fp8"}, "'fp8' is no precision; known are fp32, fp16, int8"),
        ({"precision": ()}, "No precision"),
        ({"batch": (4, 2, 8)}, "4:2:8 makes no sense"),
        ({"batch": (0, 1, 2)}, "0:1:2 makes no sense"),
        ({"workspace": 0}, "workspace must be positive"),
        ({"gpu": ("sm90",)}, "'sm90' is no GPU target.*sm86"),
        ({"backend": "onnxruntime"}, "no engine backend"),
    ],
)
def test_arguments_that_make_no_sense(model, tmp_path, arguments, words):
    with pytest.raises(UsageError, match=words):
        build_engine(model, tmp_path, **{"backend": "tensorrt-rtx", **arguments})


@pytest.mark.usefixtures("no_gpu")
def test_current_gpu_needs_a_gpu(model, tmp_path):
    with pytest.raises(BackendError, match=r"needs an NVIDIA GPU .*no NVIDIA driver.*name the GPUs"):
        build_engine(model, tmp_path, gpu="current", backend="tensorrt-rtx")


def test_current_gpu_that_rtx_does_not_know(model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "query_driver", lambda: Driver("13.0", (Gpu("NVIDIA H100", (9, 0)),)))
    with pytest.raises(BackendError, match=r"does not know the GPU here, NVIDIA H100 \(sm90\); use tensorrt"):
        build_engine(model, tmp_path, gpu="current", backend="tensorrt-rtx")


def test_current_gpu_becomes_its_name(model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "query_driver", lambda: Driver("13.0", (Gpu("NVIDIA GeForce RTX 4070", (8, 9)),)))
    (result,) = build_engine(model, tmp_path, precision="fp16", gpu="current", backend="tensorrt-rtx")
    assert (result.manifest.targets, result.manifest.gpu) == (("sm89",), "NVIDIA GeForce RTX 4070")


@pytest.fixture
def full_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 10 as far as building goes: the RTX library without targets, which builds without a GPU."""
    fake = ModuleType("tensorrt")
    fake.__dict__.update(trt.__dict__)
    fake.__dict__["__version__"] = "10.3.0.26"
    fake.__dict__.pop("ComputeCapability")
    monkeypatch.setitem(sys.modules, "tensorrt", fake)


@pytest.mark.usefixtures("full_tensorrt")
def test_full_tensorrt_takes_the_same_path(model, tmp_path, monkeypatch):
    orin = Driver("12.6", (Gpu("Orin", (8, 7)),))
    monkeypatch.setattr(module, "query_driver", lambda: orin)
    (result,) = build_engine(model, tmp_path, precision="fp16")
    m = result.manifest
    assert result.plan.name == "tiny_fp16_tensorrt.plan"
    assert (m.runtime, m.runtime_version, m.targets, m.gpu, m.cuda) == ("tensorrt", "10.3.0.26", ("sm87",), "Orin", "12.6")


@pytest.fixture
def plugin_model(model: Path, tmp_path: Path) -> Path:
    onnx.save(change_decoder(onnx.load(model), "plugin"), tmp_path / "plugin.onnx")
    return tmp_path / "plugin.onnx"


@pytest.mark.usefixtures("full_tensorrt")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_full_tensorrt_gets_the_plugin_before_the_graph(plugin_model, tmp_path, monkeypatch, precision):
    """The parser here sees the graph without its decoder, since this library takes no plugins; all else is as with TensorRT."""
    real, fake = trt.OnnxParser, sys.modules["tensorrt"]
    library = tmp_path / "plugin.so"
    library.write_bytes(b"a library")
    loaded: list[str] = []

    class Registry:
        all_creators: list[Any] = []  # noqa: RUF012

        def load_library(self, path: str) -> None:
            loaded.append(path)
            self.all_creators.append(SimpleNamespace(name="KeyPosSMultilateration", plugin_version="1", plugin_namespace=""))

    def parser(network: Any, logger: Any) -> Any:
        inner = real(network, logger)

        def parse(source: bytes) -> bool:
            assert loaded == [str(library)]
            graph = onnx.load_model_from_string(source)
            assert graph.graph.node[-1].op_type == "KeyPosSMultilateration"
            return inner.parse(detach_decoder(graph).SerializeToString())

        return SimpleNamespace(parse=parse)

    monkeypatch.setattr(fake, "get_plugin_registry", Registry)
    monkeypatch.setattr(fake, "OnnxParser", parser)
    monkeypatch.setattr(module, "query_driver", lambda: Driver("12.6", (Gpu("Orin", (8, 7)),)))
    monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", str(library))
    (result,) = build_engine(plugin_model, tmp_path / "out", precision=precision, backend="tensorrt")
    assert result.error is None
    m = read_manifest(result.plan)
    assert m.plugin == {"name": "KeyPosSMultilateration", "version": "1", "sha256": hashlib.sha256(b"a library").hexdigest()}
    assert (m.spec.decoder, m.precision_found) == ("plugin", precision)


@pytest.mark.usefixtures("full_tensorrt")
def test_full_tensorrt_without_the_plugin_library(plugin_model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "query_driver", lambda: Driver("12.6", (Gpu("Orin", (8, 7)),)))
    monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", str(tmp_path / "nowhere.so"))
    with pytest.raises(BackendError, match=r"KEYPOSS_PLUGIN_LIBRARY names '.*nowhere\.so', and there is no such file"):
        build_engine(plugin_model, tmp_path / "out", backend="tensorrt")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("full_tensorrt", "no_gpu")
def test_full_tensorrt_without_a_gpu(model, tmp_path):
    with pytest.raises(BackendError, match=r"TensorRT needs an NVIDIA GPU to build .*here with tensorrt-rtx"):
        build_engine(model, tmp_path, backend="tensorrt")


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
