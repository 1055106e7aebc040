from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from keyposs_trt.engine import versions
from keyposs_trt.engine.versions import Backend, installed_backends, load_backend, version_numbers
from keyposs_trt.errors import BackendError, UsageError

RTX_NAMES = ("tensorrt_rtx", "tensorrt_rtx_bindings")


def module(name: str, version: str | None) -> ModuleType:
    fake = ModuleType(name)
    if version is not None:
        fake.__dict__["__version__"] = version
    return fake


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Sets which TensorRT modules can be imported: a module, or None for not installed."""

    def install(**modules: ModuleType | None) -> None:
        for name in ("tensorrt", *RTX_NAMES):
            monkeypatch.setitem(sys.modules, name, modules.get(name))

    return install


class Recorder(SimpleNamespace):
    """A builder config that writes down what is asked of it."""

    def __init__(self) -> None:
        super().__init__(calls=[])

    def set_flag(self, flag: Any) -> None:
        self.calls.append(("set", flag))

    def clear_flag(self, flag: Any) -> None:
        self.calls.append(("clear", flag))

    def set_compute_capability(self, capability: Any, index: int) -> None:
        self.calls.append((capability, index))

    def set_memory_pool_limit(self, pool: Any, limit: int) -> None:
        self.calls.append((pool, limit))


def fake_trt(**more: Any) -> SimpleNamespace:
    members = {"NONE": 0, "CURRENT": 1, "SM120": 120, "SM86": 86, "SM89": 89}
    return SimpleNamespace(
        __version__="1.7.1.116",
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        BuilderFlag=SimpleNamespace(DISABLE_TIMING_CACHE="no cache", TF32="tf32", VERSION_COMPATIBLE="newer"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
        HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="ampere+"),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        ComputeCapability=SimpleNamespace(__members__=members, **members),
        **more,
    )


RTX = Backend("tensorrt-rtx", fake_trt())
TRT = Backend("tensorrt", fake_trt())


def test_auto_takes_tensorrt_first_and_rtx_next(installed):
    installed(tensorrt=module("tensorrt", "10.3.0"), tensorrt_rtx=module("tensorrt_rtx", "1.7.1"))
    assert load_backend().name == "tensorrt"
    installed(tensorrt_rtx_bindings=module("tensorrt_rtx_bindings", "1.7.1"))
    assert (load_backend().name, load_backend().version) == ("tensorrt-rtx", "1.7.1")


def test_nothing_installed_says_how_to_get_it(installed):
    installed()
    with pytest.raises(BackendError, match=r"Neither .* pip install 'tensorrt-rtx-cu13-bindings<2' 'tensorrt-rtx-cu13-libs<2'"):
        load_backend()
    with pytest.raises(BackendError, match=r"TensorRT is not installed: .*JetPack"):
        load_backend("tensorrt")
    assert all(isinstance(found, BackendError) for found in installed_backends().values())


def test_half_removed_package_counts_as_not_installed(installed):
    installed(tensorrt=module("tensorrt", None))
    with pytest.raises(BackendError, match="not installed"):
        load_backend("tensorrt")


def test_old_tensorrt_is_refused_with_both_versions(installed):
    installed(tensorrt=module("tensorrt", "8.5.2.2"))
    with pytest.raises(BackendError, match=r"8\.5\.2\.2 is too old.*10\.3 or newer"):
        load_backend("tensorrt")


@pytest.mark.parametrize("error", [OSError("libnvinfer.so.10: cannot open"), ImportError("libnvinfer.so.10: cannot open")])
def test_broken_package_is_not_called_missing(monkeypatch, error):
    def import_module(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(versions, "import_module", import_module)
    for name in ("tensorrt", "auto"):
        with pytest.raises(BackendError, match=r"installed but does not load .*libnvinfer"):
            load_backend(name)


def test_unknown_backend_lists_the_known():
    with pytest.raises(UsageError, match="'cuda' is no engine backend; known are auto, tensorrt, tensorrt-rtx"):
        load_backend("cuda")


def test_network_is_strongly_typed_with_and_without_the_flag():
    builder = SimpleNamespace(create_network=lambda flags: flags)
    assert TRT.create_network(builder) == 1 << 1
    without = fake_trt()
    without.NetworkDefinitionCreationFlag = SimpleNamespace()
    assert Backend("tensorrt", without).create_network(builder) == 0


def test_rtx_gets_targets_and_no_timing_cache():
    config = Recorder()
    RTX.configure(config, ("sm86", "sm120"), None)
    assert config.calls == [("clear", "tf32"), ("set", "no cache"), (86, 0), (120, 1)]
    assert config.num_compute_capabilities == 2


def test_tensorrt_gets_the_workspace_and_no_targets():
    config = Recorder()
    TRT.configure(config, ("sm87",), 1 << 20)
    assert config.calls == [("clear", "tf32"), ("workspace", 1 << 20)]


def test_tensorrt_gets_compatibility():
    config = Recorder()
    TRT.configure(config, ("sm86",), None, ("hardware", "version"))
    assert ("set", "newer") in config.calls
    assert (config.hardware_compatibility_level, config.profiling_verbosity) == ("ampere+", "detailed")


def test_compatibility_is_checked(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert TRT.check_compatibility(["version", "hardware"]) == ("hardware", "version")
    assert RTX.check_compatibility(()) == ()
    with pytest.raises(UsageError, match="'gpu' is no compatibility; known are hardware, version"):
        TRT.check_compatibility(["gpu"])
    with pytest.raises(UsageError, match="TensorRT-RTX plans run on the GPUs that they were built for"):
        RTX.check_compatibility(["version"])
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(UsageError, match="does not run on a Jetson"):
        TRT.check_compatibility(["hardware"])
    assert TRT.check_compatibility(["version"]) == ("version",)


def test_targets():
    assert RTX.known_targets() == ("sm86", "sm89", "sm120", "current")
    assert RTX.check_targets(None) == ("sm86", "sm89", "sm120")
    assert RTX.check_targets(["SM89", "sm89", "sm86"]) == ("sm89", "sm86")
    assert TRT.check_targets(None) == TRT.check_targets(["current"]) == ("current",)


@pytest.mark.parametrize(
    ("backend", "gpu", "words"),
    [
        (RTX, ["sm90"], "'sm90' is no GPU target of TensorRT-RTX 1.7.1.116; known are sm86, sm89, sm120, current"),
        (RTX, ["current", "sm86"], "'current' stands alone"),
        (TRT, ["sm86"], "builds for the GPU of this machine only.*tensorrt-rtx"),
    ],
)
def test_targets_that_make_no_sense(backend, gpu, words):
    with pytest.raises(UsageError, match=words):
        backend.check_targets(gpu)


def test_version_numbers():
    assert version_numbers("10.3.0.post1") == (10, 3, 0)
    assert version_numbers("unknown") == ()


@pytest.mark.rtx
def test_installed_rtx_knows_the_default_targets():
    pytest.importorskip("tensorrt_rtx_bindings")
    backend = load_backend("tensorrt-rtx")
    assert set(versions.DEFAULT_TARGETS) < set(backend.known_targets())
    assert "none" not in backend.known_targets()
