"""Shipped models by short name, and other files by path."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyposs_trt import models
from keyposs_trt.errors import ModelError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with two models, and a working folder of its own."""
    package, work = tmp_path / "package", tmp_path / "work"
    package.mkdir()
    work.mkdir()
    for name in (f"{models.DEFAULT}.onnx", "other.onnx", f"{models.DEFAULT}.md"):
        (package / name).write_bytes(b"x")
    monkeypatch.setattr(models, "_FOLDER", package)
    monkeypatch.chdir(work)
    return package


def test_names(folder: Path) -> None:
    assert models.model_names() == sorted([models.DEFAULT, "other"])


def test_default_and_short_name(folder: Path) -> None:
    assert models.resolve() == models.resolve(None) == folder / f"{models.DEFAULT}.onnx"
    assert models.resolve("other") == folder / "other.onnx"


def test_any_file_by_path(folder: Path) -> None:
    Path("mine.plan").write_bytes(b"x")
    assert models.resolve("mine.plan") == Path("mine.plan")
    assert models.resolve(Path("mine.plan")) == Path("mine.plan")


def test_a_short_name_goes_before_a_file_of_that_name(folder: Path) -> None:
    Path("other").write_bytes(b"x")
    assert models.resolve("other") == folder / "other.onnx"
    assert models.resolve("./other") == Path("other")


@pytest.mark.parametrize("name", ["", "nothing", "nothing.onnx", "../other.onnx", "x" * 300])
def test_unknown(folder: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"shipped model \(face68-32, other\)"):
        models.resolve(name)


def test_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        models.resolve(folder)


def test_nothing_shipped(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(ModelError, match="none in this installation"):
        models.resolve()
