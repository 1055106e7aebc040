"""``keyposs-trt run`` from pictures and videos to pictures, videos and JSON lines."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from cli_media import ASTRONAUT, FACE, astronaut, frames_of, leftovers, write_video
from model_zoo import tiny_model

from keyposs_trt.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 12, fps=10)


def run(*arguments: object) -> int:
    return main(["run", *map(str, arguments)])


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_image_with_nowhere_to_save(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ASTRONAUT, "--model", model) == 0
    out, err = capsys.readouterr()
    assert out == f"{ASTRONAUT}: 1 face\n"
    assert err == "Nothing was saved: -o OUT saves annotated pictures, --json FILE the landmarks.\n"


def test_an_image_to_a_picture_and_json(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, lines = tmp_path / "out.png", tmp_path / "deep" / "out.jsonl"
    assert run(ASTRONAUT, "-o", picture, "--json", lines, "--model", model) == 0
    assert capsys.readouterr() == (f"{ASTRONAUT}: 1 face -> {picture}\n1 JSON line -> {lines}\n", "")
    (record,) = records(lines.read_text())
    assert (record["source"], record["frame"], record["time"], record["size"], record["scheme"]) == (
        str(ASTRONAUT),
        0,
        0,
        [512, 512],
        "300w",
    )
    (face,) = record["faces"]
    assert len(face["landmarks"]) == len(face["scores"]) == len(face["covariance"]) == 68
    assert 0.5 < face["score"] <= 1
    x, y = (face["box"][0] + face["box"][2]) / 2, (face["box"][1] + face["box"][3]) / 2
    assert FACE[0] < x < FACE[2]
    assert FACE[1] < y < FACE[3]
    changed = (cv2.imread(str(picture)) != astronaut()).any(-1)  # drawn on the face, and nowhere near the lower half
    assert changed.any()
    assert not changed[300:].any()
    assert leftovers(tmp_path) == []


def test_a_folder_a_pattern_and_a_file_into_a_folder(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/x.jpg", "a/y.jpg", "b/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ASTRONAUT, tmp_path / name)
    out = tmp_path / "out"
    assert run(tmp_path / "a", tmp_path / "*" / "x.jpg", tmp_path / "b" / "x.jpg", "-o", out, "--model", model) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.rpartition("/")[2] for line in said] == ["x.jpg", "y.jpg", "x-2.jpg"]  # each source once
    assert sorted(p.name for p in out.iterdir()) == ["x-2.jpg", "x.jpg", "y.jpg"]


def test_a_video(model: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    assert run(clip, "-o", out, "--json", lines, "--model", model) == 0
    said, err = capsys.readouterr()
    assert said == f"{clip}: 12 frames, 1.1 s, 1 face in 12 -> {out}\n12 JSON lines -> {lines}\n"
    assert err == ""
    assert frames_of(out) == 12
    capture = cv2.VideoCapture(str(out))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    capture.release()
    found = records(lines.read_text())
    assert [(r["frame"], r["time"]) for r in found] == [(i, pytest.approx(i / 10, abs=2e-3)) for i in range(12)]
    assert all(len(r["faces"]) == 1 for r in found)


def test_standard_output_holds_json_and_nothing_else(model: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(clip, ASTRONAUT, tmp_path / "none.png", "-o", tmp_path / "out", "--json", "-", "--model", model) == 1
    out, err = capsys.readouterr()
    lines = sorted(records(out), key=lambda r: (r["stream"], r["frame"]))  # those of two sources alternate
    assert [r["source"] for r in lines] == [str(clip)] * 12 + [str(ASTRONAUT)]
    assert len(err.splitlines()) == 3
    assert f"{ASTRONAUT}: 1 face -> " in err


def test_no_detect_takes_the_whole_picture_for_a_face(model: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ASTRONAUT, clip, "--no-detect", "--json", "-", "--model", model) == 0
    found = records(capsys.readouterr().out)
    assert [r["faces"][0]["box"] for r in found] == [[-0.5, -0.5, 511.5, 511.5]] + [[-0.5, -0.5, 159.5, 159.5]] * 12


def test_max_faces_and_min_score(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "two.png"), np.hstack([astronaut(), astronaut()]))
    for options, faces in (([], "2 faces"), (["--max-faces", 1], "1 face"), (["--min-score", 1], "no face")):
        assert run(tmp_path / "two.png", *options, "--model", model) == 0
        assert capsys.readouterr().out.endswith(f": {faces}\n")


def test_a_camera(model: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda name: real(str(clip) if name == 0 else name))
    assert run("camera:0#reconnect=0", "-o", tmp_path / "out", "--model", model) == 1  # a camera that stops is no success
    out, err = capsys.readouterr()
    found = re.fullmatch(r"0: (\d+) frames?, .* in \d+(?:, (\d+) left out to keep up)? -> .*\n", out)
    assert found is not None
    assert sum(int(n) for n in found.groups(default="0")) == 12
    assert "error: Camera '0' stopped after 12 frames" in err
    assert frames_of(tmp_path / "out" / "camera0.mp4") >= 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_only(model: str, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(clip, "--json", "-", "--model", model) == 0
    assert "clip.mp4: " in terminal.getvalue()
    assert "/12 [" in terminal.getvalue()
    assert "frame/s" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", file)
    assert run(clip, "--json", "-", "--model", model) == 0
    assert file.getvalue() == f"{clip}: 12 frames, 1.1 s, 1 face in 12\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--max-faces", "0"],
        ["--max-faces", "two"],
        ["--detect-every", "0"],
        ["--threads", "-1"],
        ["--min-score", "2"],
        ["--min-score", "x"],
        ["--backend", "magic"],
    ],
)
def test_options_that_make_no_sense(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        run(ASTRONAUT, *options)
    assert done.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_outputs_that_clash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "a.jpg"
    shutil.copy(ASTRONAUT, picture)
    before = picture.read_bytes()
    for options, words in (
        (["-o", picture], "overwrite the source"),
        (["-o", tmp_path], "overwrite the source"),
        (["--json", picture], "overwrite the source"),
        (["-o", tmp_path / "b.jpg", "--json", tmp_path / "b.jpg"], "give two names"),
        (["--detector", "nobody"], "no face detector 'nobody'"),
    ):
        assert run(picture, *options) == 2
        assert words in capsys.readouterr().err
    assert picture.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


def test_debug_lets_opencv_speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("keyposs_trt.quiet.quiet_opencv", lambda: calls.append(1))
    assert run(tmp_path / "*.jpg", "--debug") == 1
    assert calls == []
    assert run(tmp_path / "*.jpg") == 1
    assert calls == [1]
