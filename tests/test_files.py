"""Files written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keyposs_trt.errors import InputError, OutputError
from keyposs_trt.files import atomic_path, file_mode, is_utf8, read_bytes, require_writable, temporary_beside


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as path:
        assert path.parent == target.parent
        assert path.suffix == ".txt"
        path.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"), atomic_path(tmp_path / "a.txt"):
        pass


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"), atomic_path(tmp_path):
        pass


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="choose a folder"), atomic_path(tmp_path / "file" / "a.txt"):
        pass


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.txt").symlink_to("pipe.txt")
    for name in ("pipe.txt", "link.txt"):
        with pytest.raises(OutputError, match=rf"{name}': it is a pipe or device"), atomic_path(tmp_path / name) as path:
            path.write_text("x")
    assert (tmp_path / "pipe.txt").is_fifo()
    assert (tmp_path / "link.txt").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_written(tmp_path: Path, there: bool) -> None:
    real, link = tmp_path / "real" / "data.bin", tmp_path / "link.txt"
    if there:
        real.parent.mkdir()
        real.write_text("old")
    link.symlink_to(real)
    with atomic_path(link) as path:
        assert path.parent == real.parent
        assert path.suffix == ".txt"
        path.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert list(real.parent.iterdir()) == [real]


def test_names_no_file_system_takes(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("x" * 300, "loop/a"):
        with pytest.raises(OutputError, match="Cannot write"), atomic_path(tmp_path / name) as path:
            path.write_text("x")
        assert file_mode(tmp_path / name) == 0


def test_names_opencv_takes() -> None:
    assert is_utf8(Path("Zoë.jpg"))
    assert not is_utf8(os.fsdecode(b"caf\xe9.jpg"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="choose a folder"), atomic_path(tmp_path / "a.txt") as path:
        path.write_text("x")


def test_temporary_names_differ() -> None:
    names = {temporary_beside(Path("x/video.mp4")) for _ in range(20)}
    assert len(names) == 20
    assert all(name.suffix == ".mp4" and name.name.startswith(".video.") for name in names)


def test_read_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a", "model") == b"abc"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for path, message in (("nowhere", "There is no model"), ("", "is a folder, not a model"), ("empty", "is empty")):
        with pytest.raises(InputError, match=message):
            read_bytes(tmp_path / path, "model")


def test_trying_whether_a_file_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    old = tmp_path / "old.txt"
    old.write_text("old")
    require_writable(old)
    require_writable(tmp_path / "new" / "a.txt")
    assert old.read_text() == "old"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["new", "old.txt"]
    with pytest.raises(OutputError, match="it is a folder"):
        require_writable(tmp_path)
    with pytest.raises(OutputError, match="Cannot write"):
        require_writable(old / "a.txt")
