"""TensorRT-RTX's runtime cache on disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fake_tensorrt import SIZE, Machine, make_machine

from keyposs_trt.engine.manifest import read_manifest
from keyposs_trt.engine.runtime_cache import cache_folder, cache_path, read_cache, write_cache

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("KEYPOSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return make_machine(monkeypatch, tmp_path, rtx=True)


def run(machine: Machine) -> None:
    with machine.open() as runner, runner.clone() as twin:
        for _ in range(3):
            runner(np.zeros((1, SIZE, SIZE, 3), np.uint8))
            twin(np.zeros((1, SIZE, SIZE, 3), np.uint8))


def test_kernels_are_compiled_once(machine, folder):
    run(machine)
    [file] = folder.iterdir()
    assert file == cache_path(read_manifest(machine.path), machine.device.name)
    assert file.name.endswith("-10.3.0-fake-gpu-1.rtxcache")
    assert read_cache(file) == b"kernels of this GPU"
    before = file.stat().st_mtime_ns
    run(machine)
    assert machine.happened.caches[-1].content == b"kernels of this GPU"
    assert file.stat().st_mtime_ns == before  # nothing new was compiled, nothing is written
    assert list(folder.iterdir()) == [file]


def test_graphs_have_contexts_compiled_for_their_shape(machine, folder):
    run(machine)
    assert (machine.happened.contexts, machine.happened.eager) == (4, 2)


@pytest.mark.parametrize("damage", [b"", b"short", b"kernels of this GPU" * 3, "flipped", "foreign"])
def test_a_damaged_or_foreign_cache_is_replaced(machine, folder, damage):
    run(machine)
    [file] = folder.iterdir()
    good = file.read_bytes()
    if damage == "foreign":
        write_cache(file, b"of another driver")
    else:
        file.write_bytes(good[:-1] + b"x" if damage == "flipped" else damage)
    run(machine)
    assert machine.happened.caches[-1].content == b""
    assert file.read_bytes() == good


def test_a_folder_that_cannot_be_written_costs_nothing_else(machine, folder):
    folder.write_text("a file where the folder should be")
    run(machine)
    assert folder.read_text() == "a file where the folder should be"


def test_full_tensorrt_has_none(monkeypatch, tmp_path, folder):
    run(make_machine(monkeypatch, tmp_path))
    assert not folder.exists()


def test_where_the_folder_is(monkeypatch, tmp_path):
    monkeypatch.setenv("KEYPOSS_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("KEYPOSS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "keyposs-trt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "keyposs-trt"
    assert os.environ["HOME"] == str(tmp_path)
