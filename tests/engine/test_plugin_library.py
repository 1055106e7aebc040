from __future__ import annotations

import hashlib
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from keyposs_trt.engine import native_library
from keyposs_trt.engine.plugin_library import FILE, VARIABLE, find_library, load_library
from keyposs_trt.errors import BackendError
from keyposs_trt.graph.contract import PLUGIN_NAME

if TYPE_CHECKING:
    from pathlib import Path


def creator(name: str, version: str) -> Any:
    return SimpleNamespace(name=name, plugin_version=version, plugin_namespace="")


CREATOR = creator(PLUGIN_NAME, "1")
OTHERS = [creator(PLUGIN_NAME, "0"), creator("DisentangledAttention_TRT", "1")]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package without a library."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(native_library, "_PACKAGE", tmp_path / "keyposs_trt")
    monkeypatch.setattr(native_library.sysconfig, "get_path", {"platlib": str(tmp_path / "site-packages")}.__getitem__)
    (tmp_path / "keyposs_trt").mkdir()
    return tmp_path / "keyposs_trt"


def library(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a library")
    return path


class Registry:
    """TensorRT's registry; ``works`` tells whether loading a library registers its creator."""

    def __init__(self, works: bool = True) -> None:
        self.all_creators: list[Any] = list(OTHERS)
        self.loaded: list[str] = []
        self.works = works

    def load_library(self, path: str) -> object:
        assert CREATOR not in self.all_creators, "a second time TensorRT refuses"
        self.loaded.append(path)
        if self.works:
            self.all_creators.append(CREATOR)
        return object() if self.works else None


def backend(registry: Registry) -> Any:
    return SimpleNamespace(title="TensorRT", version="10.3.0", trt=SimpleNamespace(get_plugin_registry=lambda: registry))


LOG: Any = SimpleNamespace(reason="undefined symbol")


def test_places_in_their_order(package, tmp_path, monkeypatch):
    with pytest.raises(BackendError, match=f"library of the plugin {PLUGIN_NAME}, '{FILE}', and it is not here: build it .docs/plugin.md"):
        find_library()
    build = tmp_path / "build"
    old, new = library(build / "plugins" / FILE), library(build / "release" / "plugins" / FILE)
    os.utime(old, (1, 1))
    with pytest.raises(BackendError):  # beside an installed package, a folder "build" is somebody else's
        find_library()
    (tmp_path / "CMakeLists.txt").touch()
    assert find_library() == new
    os.utime(new, (0, 0))
    assert find_library() == old
    compiled = library(tmp_path / "site-packages" / "keyposs_trt" / "lib" / FILE)
    assert find_library() == compiled
    installed = library(package / "lib" / FILE)
    assert find_library() == installed
    named = library(tmp_path / "mine.so")
    monkeypatch.setenv(VARIABLE, str(named))
    assert find_library() == named


def test_a_named_library_that_is_not_there_is_no_reason_to_take_another(package, monkeypatch):
    library(package / "lib" / FILE)
    monkeypatch.setenv(VARIABLE, "/nowhere/plugin.so")
    with pytest.raises(BackendError, match=r"KEYPOSS_PLUGIN_LIBRARY names '/nowhere/plugin\.so', and there is no such file; correct it"):
        find_library()


def test_loaded_once_and_recorded(package):
    path = library(package / "lib" / FILE)
    registry = Registry()
    expected = {"name": PLUGIN_NAME, "version": "1", "sha256": hashlib.sha256(b"a library").hexdigest()}
    assert load_library(backend(registry), LOG) == expected
    assert load_library(backend(registry), LOG) == expected
    assert registry.loaded == [str(path)]


def test_library_that_does_not_load(package):
    path = library(package / "lib" / FILE)
    with pytest.raises(BackendError) as e:
        load_library(backend(Registry(works=False)), LOG)
    assert str(e.value) == f"TensorRT 10.3.0 cannot load the plugin '{path}' (undefined symbol); build it again here."
