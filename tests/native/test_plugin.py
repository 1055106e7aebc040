"""The TensorRT plugin: its library, the harness that plays TensorRT, and the registry of TensorRT-RTX."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from native_tools import ROOT, gpu_architecture, run

RTX = """
import json
import sys
import numpy as np
import tensorrt_rtx_bindings as trt

trt.Builder(trt.Logger(trt.Logger.ERROR))  # the registry's logger
registry = trt.get_plugin_registry()
registry.load_library(sys.argv[1])
assert [c.plugin_version for c in registry.all_creators if c.name == "KeyPosSMultilateration"] == ["1"]
creator = registry.get_creator("KeyPosSMultilateration", "1", "")
print(json.dumps({f.name: f.type.name for f in creator.field_names}))


def create(**changes):
    values = {"sigma": np.array([2], np.float32), "stride": np.array([4], np.float32), "grid": b"half_pixel", **changes}
    types = {"float32": trt.PluginFieldType.FLOAT32, "int32": trt.PluginFieldType.INT32}
    fields = [
        trt.PluginField(name, value, trt.PluginFieldType.CHAR if isinstance(value, bytes) else types[str(value.dtype)])
        for name, value in values.items()
        if value is not None
    ]
    return creator.create_plugin("layer", trt.PluginFieldCollection(fields), trt.TensorRTPhase.BUILD)


assert create() is not None
assert create(radius=np.array([3], np.int32), prior=np.array([0.1], np.float32)) is not None
assert create(stride=None) is None
assert create(sigma=np.array([-2], np.float32)) is None
assert create(grid=b"middle") is None
assert create(floor=np.array([1], np.float32)) is None
"""


NODE = """
from keyposs_trt.engine.log import Log
from keyposs_trt.engine.plugin_library import load_library
from keyposs_trt.engine.versions import load_backend
backend = load_backend("tensorrt-rtx")
log = Log(backend)
builder = backend.trt.Builder(log.logger)
print(load_library(backend, log)["name"], load_library(backend, log)["version"], log.errors)
creator = backend.trt.get_plugin_registry().get_creator("KeyPosSMultilateration", "1", "")
print(sorted(field.name for field in creator.field_names))

import numpy, onnx
from model_zoo import heatmap_network, tiny_spec
from keyposs_trt.graph import attach_decoder, attach_preprocessing
model = attach_decoder(attach_preprocessing(heatmap_network()), tiny_spec(decoder="plugin"))
trt = backend.trt
wanted = {field.name for field in creator.field_names}
values = {a.name: onnx.helper.get_attribute_value(a) for a in model.graph.node[-1].attribute if a.name in wanted}
kinds = {float: ("FLOAT32", numpy.float32), int: ("INT32", numpy.int32), bytes: ("CHAR", None)}
data = {name: v if isinstance(v, bytes) else numpy.array([v], kinds[type(v)][1]) for name, v in values.items()}
fields = [trt.PluginField(name, data[name], getattr(trt.PluginFieldType, kinds[type(v)][0])) for name, v in values.items()]
plugin = creator.create_plugin("decode", trt.PluginFieldCollection(fields), trt.TensorRTPhase.BUILD)
print(plugin is not None, log.errors)
"""


def exported(library) -> list[str]:
    return [line.split()[-1] for line in run(["nm", "-D", "--defined-only", library]).stdout.splitlines()]


def test_compiles_without_a_warning(plugin):
    assert re.findall(r".*warning.*", plugin.log, re.IGNORECASE) == []


@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm")
def test_exports_the_two_functions_of_a_plugin_library_alone(plugin):
    assert exported(plugin.library) == ["getCreators", "setLoggerFinder"]


@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm")
def test_needs_nothing_of_tensorrt_or_cuda_to_load(plugin):
    needed = run(["nm", "-D", "--undefined-only", plugin.library]).stdout
    assert "free" in needed  # nm did list something
    assert re.findall(r".*(?:nvinfer|getPluginRegistry|getLogger|cuda|cudnn|cublas).*", needed, re.IGNORECASE) == []
    libraries = run(["ldd", plugin.library]).stdout
    assert "libc.so" in libraries
    assert re.findall(r".*(?:libnv|libcuda|not found).*", libraries) == []


def test_harness(plugin):
    done = run([plugin.harness, plugin.library])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    checks, failed = map(int, re.findall(r"(\d+) checks, (\d+) failed", done.stdout)[0])
    assert checks > 700
    assert failed == 0


@pytest.mark.gpu
@pytest.mark.skipif(gpu_architecture() is None, reason="there is no NVIDIA GPU")
def test_harness_runs_the_kernel(plugin):
    done = run([plugin.harness, plugin.library])
    assert done.returncode == 0, done.stdout
    assert "The kernel was not run" not in done.stdout
    assert "decode us" in done.stdout


def test_autoload_where_a_library_is_only_opened(plugin):
    """As DeepStream, Triton and ``trtexec --staticPlugins`` do; a stand-in for libnvinfer keeps the registry."""
    autoload = plugin.folder / "libkeyposs_multilateration_autoload.so"
    done = run([plugin.harness, autoload, "--registry", plugin.folder / "registry/libnvinfer.so"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 checks, 0 failed\n", "")


def test_autoload_without_the_plugin_says_so(plugin, tmp_path):
    alone = tmp_path / "libautoload.so"
    shutil.copy(plugin.folder / "libkeyposs_multilateration_autoload.so", alone)
    done = run([plugin.harness, alone, "--registry", plugin.folder / "registry/libnvinfer.so"])
    assert done.returncode == 1
    assert f"cannot load '{tmp_path}/libkeyposs_multilateration_plugin.so'" in done.stderr


def test_autoload_does_nothing_where_there_is_no_tensorrt(plugin):
    code = f"import ctypes; ctypes.CDLL({str(plugin.folder / 'libkeyposs_multilateration_autoload.so')!r})"
    done = run([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (0, "")


def test_harness_can_fail(plugin):
    done = run([plugin.harness, plugin.folder / "registry/libnvinfer.so"])
    assert done.returncode == 1
    assert "no function setLoggerFinder" in done.stdout


@pytest.mark.rtx
def test_in_the_registry_of_tensorrt_rtx(plugin):
    """Registration, fields and creation by a TensorRT; its plugins run in full TensorRT only."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
    done = run([sys.executable, "-c", RTX, plugin.library])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"sigma": "FLOAT32", "radius": "INT32", "prior": "FLOAT32", "stride": "FLOAT32", "grid": "CHAR"}
    for words in ("'stride' is missing", "'sigma' is -2", "'grid' is 'middle'", "no attribute 'floor'"):
        assert words in done.stderr


@pytest.mark.rtx
def test_creates_the_plugin_of_a_node_that_grafting_writes(plugin):
    """Through the package's own loading, in a process of its own: a registered plugin stays, and other tests rely on there being none."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "KEYPOSS_PLUGIN_LIBRARY": str(plugin.library)}
    done = subprocess.run([sys.executable, "-c", NODE], capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr
    fields = "['grid', 'prior', 'radius', 'sigma', 'stride']"
    assert done.stdout.splitlines() == ["KeyPosSMultilateration 1 []", fields, "True []"]
