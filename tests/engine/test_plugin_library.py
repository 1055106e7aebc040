"""The library of TensorRT's plugin, loaded into TensorRT's registry."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from library_tools import library

from keyposs_trt.engine.plugin_library import FILE, load_library
from keyposs_trt.errors import BackendError
from keyposs_trt.graph.contract import PLUGIN_NAME


def creator(name: str, version: str) -> Any:
    return SimpleNamespace(name=name, plugin_version=version, plugin_namespace="")


CREATOR = creator(PLUGIN_NAME, "1")
OTHERS = [creator(PLUGIN_NAME, "0"), creator("DisentangledAttention_TRT", "1")]


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
