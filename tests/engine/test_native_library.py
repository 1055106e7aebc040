"""Where the libraries that CMake builds are searched for, and what is said where they are not."""

from __future__ import annotations

import os

import pytest
from library_tools import library

from keyposs_trt.engine import plugin_library, preprocess_library
from keyposs_trt.errors import BackendError
from keyposs_trt.graph.contract import PLUGIN_NAME

MISSING = {
    plugin_library: f"library of the plugin {PLUGIN_NAME}, '{plugin_library.FILE}', and it is not here: build it .docs/plugin.md",
    preprocess_library: f"'{preprocess_library.FILE}', and it is not here: build it .docs/preprocess.md",
}
VARIABLES = {plugin_library: "KEYPOSS_PLUGIN_LIBRARY", preprocess_library: "KEYPOSS_PREPROCESS_LIBRARY"}


@pytest.fixture(params=[plugin_library, preprocess_library], ids=["plugin", "preprocess"])
def module(request: pytest.FixtureRequest):
    return request.param


def test_places_in_their_order(module, package, tmp_path, monkeypatch):
    find_library, file = module.find_library, module.FILE
    with pytest.raises(BackendError, match=MISSING[module]):
        find_library()
    build = tmp_path / "build"
    old, new = library(build / "plugins" / file), library(build / "release" / "plugins" / file)
    os.utime(old, (1, 1))
    with pytest.raises(BackendError):  # beside an installed package, a folder "build" is somebody else's
        find_library()
    (tmp_path / "CMakeLists.txt").touch()
    assert find_library() == new
    os.utime(new, (0, 0))
    assert find_library() == old
    compiled = library(tmp_path / "site-packages" / "keyposs_trt" / "lib" / file)
    assert find_library() == compiled
    installed = library(package / "lib" / file)
    assert find_library() == installed
    named = library(tmp_path / "mine.so")
    monkeypatch.setenv(module.VARIABLE, str(named))
    assert find_library() == named


def test_a_named_library_that_is_not_there_is_no_reason_to_take_another(module, package, monkeypatch):
    library(package / "lib" / module.FILE)
    monkeypatch.setenv(module.VARIABLE, "/nowhere/mine.so")
    with pytest.raises(BackendError, match=rf"{VARIABLES[module]} names '/nowhere/mine\.so', and there is no such file; correct it"):
        module.find_library()
