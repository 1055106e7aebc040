"""The README keeps its word: its Python runs, its ``bash`` commands run, its ``shell`` commands are good usage, its links lead somewhere.

``shell`` marks commands that need a camera, hours of training, a GPU's runtime or a file of the reader's.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import pytest

from keyposs_trt.cli.main import build_parser, main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/README.md", "examples/README.md")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(language: str) -> list[str]:
    return [line for block in blocks(language) for line in block.splitlines() if line and not line.startswith("#")]


def test_there_are_examples_of_each_kind():
    assert len(blocks("python")) == 2
    assert len(commands("bash")) >= 4
    assert len(commands("shell")) >= 4


def test_python_example(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    names = {}
    exec(blocks("python")[0], names)
    names["landmarker"].close()
    assert len(names["faces"]) == 1
    assert capsys.readouterr().out.startswith("(68, 2) ")


def test_python_example_of_a_video(monkeypatch, tmp_path, capsys):
    face = cv2.resize(cv2.imread(str(ROOT / "examples/astronaut.jpg")), (256, 256))
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (256, 256))
    for _ in range(3):
        writer.write(face)
    writer.release()
    monkeypatch.chdir(tmp_path)
    exec(blocks("python")[1], {})
    assert capsys.readouterr().out.splitlines() == ["0.0 [1]", "0.1 [1]", "0.2 [1]"]


@pytest.mark.parametrize("command", commands("bash"))
def test_bash_commands_run(command, monkeypatch, tmp_path, capsys):
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/astronaut.jpg").write_bytes((ROOT / "examples/astronaut.jpg").read_bytes())
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(command)
    assert program == "keyposs-trt"
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out
    outputs = [a for a in arguments if a.startswith("out/")]
    assert all(Path(output).exists() for output in outputs)


@pytest.mark.parametrize("command", commands("bash") + commands("shell"))
def test_commands_are_good_usage(command):
    program, *arguments = shlex.split(command)
    assert program == "keyposs-trt"
    assert callable(build_parser().parse_args(arguments).run)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    mentioned = re.findall(r"^    make (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(mentioned)
    assert [t for t in mentioned if not re.search(rf"^{t}:.* ## ", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_paths_in_contributing_exist():
    """Every path that CONTRIBUTING.md names in code quotes is there (patterns and the reader's own files aside)."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:keyposs_trt|training|calibration|plugins|scripts|tests)/[\w./]+)`", text)
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_index_of_the_documentation_is_complete():
    index = (ROOT / "docs/README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md" and f"({page.name})" not in index] == []
