"""A file holds whole lines, or is not there."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.video.jsonl import JsonLines

if TYPE_CHECKING:
    from collections.abc import Iterator


def read(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_file_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    for value in (1, 2):
        with JsonLines(str(path)) as lines:
            lines.write({"a": value, "name": "Zoë\udc80"})
            assert path.exists() == (value == 2)  # the old one, until the new one is done
            if value == 2:
                assert read(path)[0]["a"] == 1
            lines.write({"a": 0})
        assert read(path) == [{"a": value, "name": "Zoë\udc80"}, {"a": 0}]
        assert lines.lines == 2
        assert [p.name for p in path.parent.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_finished_lines_are_kept_when_the_body_raises(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), JsonLines(str(tmp_path / "a.jsonl")) as lines:  # noqa: PT012
        lines.write({"a": 1})
        raise error
    assert read(tmp_path / "a.jsonl") == [{"a": 1}]
    assert len(list(tmp_path.iterdir())) == 1


def test_no_line_no_file(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text("{}\n")
    with JsonLines(str(tmp_path / "old.jsonl")):
        pass
    with pytest.raises(KeyboardInterrupt), JsonLines(str(tmp_path / "new.jsonl")):
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["old.jsonl"]
    assert (tmp_path / "old.jsonl").read_text() == "{}\n"


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonLines("-") as lines:
        lines.write({"a": [1, 2]})
    assert capsys.readouterr().out == '{"a":[1,2]}\n'


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe, link, got = tmp_path / "pipe", tmp_path / "link", []
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
        reader.start()
        with JsonLines(str(path)) as lines:
            lines.write({"a": 1})
        reader.join(10)
        assert not reader.is_alive()
        assert pipe.is_fifo()
    assert got == ['{"a":1}\n'] * 2
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    with JsonLines(str(tmp_path / "link.jsonl")) as lines:
        lines.write({"a": 1})
    assert (tmp_path / "link.jsonl").is_symlink()
    assert read(tmp_path / "real.jsonl") == [{"a": 1}]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("into", ["pipe", "file"])
def test_the_device_of_standard_output(tmp_path: Path, into: str) -> None:
    stdout = tmp_path / "stdout"  # a link of our own: /dev/stdout is not put at risk
    stdout.symlink_to("/proc/self/fd/1")
    code = (
        "import sys\nfrom keyposs_trt.video.jsonl import JsonLines\nprint('before', flush=True)\n"
        "with JsonLines(sys.argv[1]) as lines: lines.write({'a': 1})\nprint('after')"
    )
    command = [sys.executable, "-c", code, str(stdout)]
    if into == "pipe":
        text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    else:
        with (tmp_path / "file").open("w") as f:
            subprocess.run(command, stdout=f, check=True)
        text = (tmp_path / "file").read_text()
    assert text == 'before\n{"a":1}\nafter\n'
    assert stdout.is_symlink()


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (
        tmp_path / "file" / "a.jsonl",
        tmp_path / "file" / "b" / "a.jsonl",
        tmp_path,
        Path("/proc/a.jsonl"),
        tmp_path / ("x" * 300),
    ):
        with pytest.raises(OutputError, match="Cannot write"), JsonLines(str(target)):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file of this process grows beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("live", [False, True])
def test_what_does_not_fit_leaves_whole_lines(tmp_path: Path, live: bool) -> None:
    lines = JsonLines(str(tmp_path / "a.jsonl"), live=live)
    with pytest.raises(OutputError, match="room left"), lines, at_most(5000):  # noqa: PT012
        while True:
            lines.write({"a": lines.lines, "text": "x" * 90})
    assert lines.lines > 40
    assert [r["a"] for r in read(tmp_path / "a.jsonl")] == list(range(lines.lines))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_live_file_stays_whole_while_nothing_fits_and_goes_on_afterwards(tmp_path: Path) -> None:
    with JsonLines(str(tmp_path / "a.jsonl"), live=True) as lines:
        lines.write({"a": 0})
        with at_most(20), pytest.raises(OutputError):
            lines.write({"a": "x" * 50})
        assert read(tmp_path / "a.jsonl") == [{"a": 0}]
        lines.write({"a": 1})
        assert read(tmp_path / "a.jsonl") == [{"a": 0}, {"a": 1}]


def test_a_live_file_can_be_read_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"old":1}\n')
    with JsonLines(str(path), live=True) as lines:
        assert read(path) == [{"old": 1}]  # until there is something better
        for i in range(3):
            lines.write({"a": i})
            assert [r["a"] for r in read(path)] == list(range(i + 1))
            assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]
    assert len(read(path)) == 3


def test_a_process_that_is_killed_leaves_its_live_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = (
        "import sys\nfrom keyposs_trt.video.jsonl import JsonLines\n"
        "with JsonLines(sys.argv[1], live=True) as lines:\n"
        "    while True:\n        lines.write({'a': lines.lines, 'text': 'x' * 9000})\n        print(flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(5):
            child.stdout.readline()
        child.kill()
        child.stdout.close()
    assert child.returncode == -signal.SIGKILL
    whole = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in whole if line.endswith(b"\n")]
    assert [json.loads(line)["a"] for line in whole] == list(range(len(whole)))
    assert len(whole) >= 5


def test_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"old":1}\n')
    (tmp_path / "a-0006.jsonl").write_text('{"older":1}\n')
    with JsonLines(str(path), live=True, rotate=50) as lines:
        for i in range(14):
            lines.write({"a": i})  # 8 bytes, or 9
    assert {p.name: [*read(p)[0]] for p in tmp_path.iterdir()} == {
        "a-0006.jsonl": ["older"], "a-0007.jsonl": ["old"], "a-0008.jsonl": ["a"], "a-0009.jsonl": ["a"], "a.jsonl": ["a"],
    }  # fmt: skip
    files = [tmp_path / name for name in ("a-0008.jsonl", "a-0009.jsonl", "a.jsonl")]
    assert [r["a"] for p in files for r in read(p)] == list(range(14))
    assert [len(read(p)) for p in files] == [6, 6, 2]
    assert lines.lines == 14


def test_a_rotation_that_fails_is_tried_again_with_the_next_line(tmp_path: Path) -> None:
    folder, away = tmp_path / "disk", tmp_path / "away"
    with JsonLines(str(folder / "a.jsonl"), live=True, rotate=10) as lines:
        lines.write({"a": 0})
        folder.rename(away)
        folder.touch()  # no folder can be made there
        for _ in range(2):
            with pytest.raises(OutputError, match="File exists; choose a folder"):
                lines.write({"a": 1})
        folder.unlink()
        away.rename(folder)
        for i in (2, 3):
            lines.write({"a": i})
        assert lines.lines == 3
    assert {p.name: read(p) for p in folder.iterdir()} == {
        "a-0000.jsonl": [{"a": 0}], "a-0001.jsonl": [{"a": 2}], "a.jsonl": [{"a": 3}],
    }  # fmt: skip


def test_a_rotation_that_failed_does_not_open_the_file_for_good(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with JsonLines(str(tmp_path / "disk" / "a.jsonl"), live=True, rotate=10) as lines:
        lines.write({"a": 0})
        (tmp_path / "disk").rename(tmp_path / "away")
        (tmp_path / "disk").touch()
        with pytest.raises(OutputError, match="File exists"):
            lines.write({"a": 1})
    with pytest.raises(OutputError, match="not open"):
        lines.write({"a": 2})
    assert read(tmp_path / "away" / "a.jsonl") == [{"a": 0}]


def test_only_live_lines_are_rotated() -> None:
    for live, rotate in ((False, 100), (True, 0)):
        with pytest.raises(UsageError, match="rotate"):
            JsonLines("a.jsonl", live=live, rotate=rotate)


def test_lines_of_many_threads_are_whole(tmp_path: Path) -> None:
    with JsonLines(str(tmp_path / "a.jsonl")) as lines:
        threads = [
            threading.Thread(target=lambda n=n: [lines.write({"thread": n, "i": i, "text": "x" * (97 * i % 9000)}) for i in range(100)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = read(tmp_path / "a.jsonl")
    assert len(records) == lines.lines == 800
    for n in range(8):
        assert [r["i"] for r in records if r["thread"] == n] == list(range(100))


def test_the_reader_of_a_pipe_goes_away(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = threading.Thread(target=lambda: (tmp_path / "pipe").open().close(), daemon=True)
    reader.start()
    with pytest.raises(OutputError, match="reader has gone"), JsonLines(str(tmp_path / "pipe")) as lines:  # noqa: PT012
        while True:
            lines.write({"a": 1})
    reader.join(10)


def test_the_reader_of_standard_output_goes_away() -> None:
    code = (
        "from keyposs_trt.video.jsonl import JsonLines\n"
        "try:\n    with JsonLines('-') as lines:\n        while True: lines.write({'a': 1})\nexcept BrokenPipeError: raise SystemExit(7)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
    assert child.returncode in (7, 120)  # 120: Python could not flush at its own end


def test_only_an_open_file_is_written_to(tmp_path: Path) -> None:
    lines = JsonLines(str(tmp_path / "a.jsonl"))
    with lines:
        lines.write({})
    with pytest.raises(OutputError, match="not open"):
        lines.write({})
