"""The records are what docs/json.md says, and a file holds whole lines or is not there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from keyposs_trt.errors import OutputError
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.contract import Frame
from keyposs_trt.video.jsonl import SCHEMA, JsonLines, frame_record

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
FRAME = Frame(np.zeros((48, 64, 3), np.uint8), 12, 0.48)


def face(points: np.ndarray) -> Landmarks:
    n = len(points)
    covariance = np.tile(np.float32([1.23456, 0.1, 2]), (n, 1))
    return Landmarks(points.astype(np.float32), np.full(n, 0.8, np.float32), covariance, np.float32([1, 2, 30.126, 40]), 0.91, "300w")


def test_record() -> None:
    record = frame_record("clip.mp4", FRAME, [face(np.array([[1.25, 2.1234567], [3, 4]]))], "300w")
    assert record == {
        "schema": SCHEMA,
        "source": "clip.mp4",
        "frame": 12,
        "time": 0.48,
        "size": [64, 48],
        "scheme": "300w",
        "faces": [
            {
                "box": [1.0, 2.0, 30.13, 40.0],
                "score": 0.91,
                "landmarks": [[1.25, 2.123], [3.0, 4.0]],
                "scores": [0.8, 0.8],
                "covariance": [[1.2346, 0.1, 2.0]] * 2,
            }
        ],
    }
    assert frame_record("a.png", FRAME, [], "300w")["faces"] == []


def test_the_document_names_every_field_and_the_version() -> None:
    record = frame_record("clip.mp4", FRAME, [face(np.zeros((2, 2)))], "300w")
    fields = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    assert fields == [*record, *record["faces"][0]]
    assert f"schema version {SCHEMA}" in DOCUMENT
    example = json.loads(DOCUMENT.partition("```json\n")[2].partition("```")[0])
    assert list(example) == list(record)
    assert list(example["faces"][0]) == list(record["faces"][0])
    assert example["schema"] == SCHEMA


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    with JsonLines(str(tmp_path / "a.jsonl")) as lines:
        lines.write(frame_record("a", FRAME, [face(np.array([[np.nan, 1], [np.inf, -np.inf]]))], "300w"))
    (record,) = read(tmp_path / "a.jsonl")
    assert record["faces"][0]["landmarks"] == [[None, 1.0], [None, None]]


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


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    lines = JsonLines(str(tmp_path / "a.jsonl"))
    with pytest.raises(OutputError, match="No space left"), lines:  # noqa: PT012
        lines.write({"a": 1})
        lines._stream.close()
        lines._stream = Path("/dev/full").open("w")  # noqa: SIM115
        lines.write({"a": 2})
    assert list(tmp_path.iterdir()) == []
