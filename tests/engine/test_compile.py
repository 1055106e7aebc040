"""One plan: what the finished engine tells, scratch memory, kept kernel times, the plugin inside; with stand-ins for TensorRT."""

from __future__ import annotations

import json
from typing import Any

import onnx
import pytest
from model_zoo import tiny_model

from keyposs_trt.engine.gpu import Driver, Gpu
from keyposs_trt.engine.inspector import convolution_types, prove_engine
from keyposs_trt.errors import BuildError

INSPECTED = {
    "Layers": [
        {"Name": "Reformat", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}], "Outputs": []},
        {"Name": "stem", "LayerType": "CaskConvolution", "Inputs": [{"Name": "x", "Format/Datatype": "Channel major FP16 format"}]},
        {
            "Name": "b",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "y", "Format/Datatype": "Thirty-two wide row major Int8 format"}],
        },
        {"Name": "c", "LayerType": "NoOp", "ParamType": "Convolution", "Inputs": [{"Format/Datatype": "Int8"}]},
        {"Name": "d", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]},
    ]
}


def test_what_the_inspector_tells():
    assert convolution_types(json.dumps(INSPECTED)) == {"fp16": 1, "int8": 2}
    assert convolution_types(json.dumps({"Layers": ["stem", "b"]})) is None  # TensorRT tells names alone without detailed verbosity
    assert convolution_types("no json") is None


@pytest.mark.parametrize(
    ("types", "precision", "ok"),
    [
        (None, "int8", True),
        ({"fp16": 1, "int8": 2}, "int8", True),
        ({"fp16": 3}, "int8", False),
        ({"fp16": 3, "fp32": 1}, "fp16", True),
        ({"fp32": 4}, "fp16", False),
        ({"fp32": 4}, "fp32", True),
        ({"fp16": 1, "fp32": 3}, "fp32", False),
    ],
)
def test_a_finished_engine_in_another_precision_fails(types, precision, ok):
    if ok:
        prove_engine(types, precision, "m")
        return
    with pytest.raises(BuildError, match=f"{precision} was asked for, but the finished engine of 'm' has convolutions in"):
        prove_engine(types, precision, "m")


def test_workspace_is_half_of_what_is_free(monkeypatch):
    from types import SimpleNamespace

    from keyposs_trt.engine import compile as compiling

    monkeypatch.setattr("keyposs_trt.engine.gpu.free_memory", lambda: (8 << 30) + 12345)
    job = SimpleNamespace(workspace=None, backend=SimpleNamespace(is_rtx=False))
    assert compiling._workspace(job) == 4 << 30
    monkeypatch.setattr("keyposs_trt.engine.gpu.free_memory", lambda: None)
    assert compiling._workspace(job) is None
    job.workspace = 5
    assert compiling._workspace(job) == 5


def test_timing_cache_is_kept_for_full_tensorrt_alone(tmp_path):
    from types import SimpleNamespace

    from keyposs_trt.engine.compile import _TimingCache

    class Config:
        given: bytes | None = None

        def create_timing_cache(self, data: bytes) -> bytes:
            return data

        def set_timing_cache(self, cache: bytes, ignore: bool) -> bool:
            assert ignore is False
            self.given = cache
            return True

        def get_timing_cache(self) -> Any:
            return SimpleNamespace(serialize=lambda: b"times of kernels")

    gpu = Driver("12.6", (Gpu("Orin", (8, 7)),))
    backend = SimpleNamespace(is_rtx=False, version="10.3.0")
    job = SimpleNamespace(backend=backend, driver=gpu, folder=tmp_path, targets=("sm87",))
    for expected in (b"", b"times of kernels"):
        cache, config = _TimingCache(job), Config()
        cache.put_into(config)
        assert config.given == expected
        cache.keep(config)
    assert [p.name for p in tmp_path.iterdir()] == [".timing_10.3.0_sm87.cache"]
    backend.is_rtx = True
    cache, config = _TimingCache(job), Config()
    cache.put_into(config)
    assert config.given is None


def test_version_compatible_plans_hold_the_plugin(tmp_path, monkeypatch):
    """What TensorRT is told: the library to serialise, before the build."""
    from types import SimpleNamespace

    from keyposs_trt.engine import compile as compiling

    told: list[Any] = []

    class Config:
        plugins_to_serialize: Any = None

        def add_optimization_profile(self, profile: Any) -> int:
            told.append(self.plugins_to_serialize)
            return 0

    network = SimpleNamespace(get_input=lambda i: SimpleNamespace(name="image", shape=(-1, 32, 32, 3)), num_layers=0)
    config = Config()
    builder = SimpleNamespace(
        create_builder_config=lambda: config,
        create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *a: None),
        build_serialized_network=lambda n, c: b"plan",
    )
    trt = SimpleNamespace(Builder=lambda logger: builder, OnnxParser=lambda n, logger: SimpleNamespace(parse=lambda s: True))
    configured: list[Any] = []
    backend = SimpleNamespace(
        trt=trt, title="TensorRT", version="10.9", is_rtx=False, create_network=lambda b: network, configure=lambda *a: configured.append(a)
    )
    library = tmp_path / "plugin.so"
    library.write_bytes(b"library")
    monkeypatch.setenv("KEYPOSS_PLUGIN_LIBRARY", str(library))
    monkeypatch.setattr(compiling, "needs_plugin", lambda graph: True)
    monkeypatch.setattr(compiling, "load_library", lambda *a: {"name": "n", "version": "1", "sha256": "s"})
    monkeypatch.setattr(compiling, "prove_precision", lambda *a: "fp16")
    monkeypatch.setattr(compiling.Steps, "monitor", lambda self, backend: None)
    path = tiny_model(tmp_path / "tiny.onnx", points=5, heatmap_size=16, input_size=32, decoder="none")
    graph = onnx.load(path)
    for kinds, expected in (((), None), (("version",), [str(library)])):
        job = compiling.Job(
            "m",
            path,
            graph,
            None,
            "",
            tmp_path,
            backend,
            Driver(None, ()),
            ("sm86",),
            (1, 2, 4),
            None,
            compatibility=kinds,  # pyright: ignore
        )
        assert compiling.compile_plan(job, "fp16", SimpleNamespace(logger=None)).plan == b"plan"
        assert told.pop() == expected
        assert configured.pop()[-1] == kinds
