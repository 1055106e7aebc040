"""``keyposs-trt run`` on several streams and on live ones: as a process of its own, ended by signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from cli_media import ASTRONAUT, frames_of, write_video
from model_zoo import tiny_model

from keyposs_trt.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

LIVE = f"test://#image={ASTRONAUT}&fps=60"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def default_signals() -> None:
    """Whoever starts the tests may ignore some signals, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Running:
    """The verb as a process of its own."""

    def __init__(self, *arguments: object, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "keyposs_trt.cli.main", "run", *map(str, arguments)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by kill); not a pipe: a test may look at it while the verb runs
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=default_signals,
        )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def said(self) -> str:
        """What it has written to standard error."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode()

    def end(self, number: int) -> tuple[int, str, str]:
        os.kill(self.process.pid, number)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out, self.said

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._errors.close()


@pytest.fixture
def started():
    """Starts the verb; whatever a test does, nothing runs on after it."""
    all_: list[Running] = []

    def start(*arguments: object, **options: Any) -> Running:
        all_.append(Running(*arguments, **options))
        return all_[-1]

    yield start
    for running in all_:
        running.kill()


def test_several_videos_go_into_one_file_of_lines_tagged_by_source(model, tmp_path, capsys):
    clips = [write_video(tmp_path / f"{name}.avi", 8 + n) for n, name in enumerate("abc")]
    lines = tmp_path / "all.jsonl"
    assert main(["run", *map(str, clips), "--json", str(lines), "--model", model]) == 0
    found = records(lines)
    for number, clip in enumerate(clips):
        own = [r for r in found if r["stream"] == number]
        assert {r["source"] for r in own} == {str(clip)}
        assert [r["frame"] for r in own] == list(range(8 + number))
        assert all(face["track"] == 1 for r in own for face in r["faces"])
    out = capsys.readouterr().out
    assert f"{8 + 9 + 10} JSON lines -> {lines}" in out


def test_each_stream_gets_its_own_file_in_a_folder(model, tmp_path):
    clips = [write_video(tmp_path / f"{name}.avi", 5) for name in "ab"]
    folder, pictures = tmp_path / "lines", tmp_path / "pictures"
    assert main(["run", *map(str, clips), "--json", f"{folder}/", "-o", str(pictures), "--model", model]) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["a.jsonl", "b.jsonl"]
    assert [r["source"] for r in records(folder / "b.jsonl")] == [str(clips[1])] * 5
    assert [frames_of(pictures / f"{name}.avi") for name in "ab"] == [5, 5]


def test_side_by_side_and_alone_the_landmarks_are_the_same(tmp_path):
    clips = [write_video(tmp_path / f"{name}.avi", 20) for name in "abc"]
    together, alone = tmp_path / "together.jsonl", tmp_path / "alone.jsonl"
    assert main(["run", *map(str, clips), "--json", str(together), "--model", "face68-8"]) == 0
    assert main(["run", str(clips[1]), "--json", str(alone), "--model", "face68-8"]) == 0
    one = [r["faces"] for r in records(together) if r["stream"] == 1]
    other = [r["faces"] for r in records(alone)]
    assert len(one) == len(other) == 20
    for a, b in zip(one, other, strict=True):
        assert len(a) == len(b) == 1
        far = max(abs(p - q) for x, y in zip(a[0]["landmarks"], b[0]["landmarks"], strict=True) for p, q in zip(x, y, strict=True))
        assert far <= 0.002  # the last digit of a batch may round otherwise


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_live_streams_with_every_file_closed(number, model, tmp_path, started):
    video, lines = tmp_path / "out", tmp_path / "live.jsonl"
    running = started(LIVE, f"{LIVE}&width=320", "-o", video, "--json", lines, "--model", model)

    def both_run() -> bool:
        said = lines.read_text() if lines.exists() else ""
        return all(said.count(f'"stream":{stream},') > 8 for stream in range(2))

    wait_until(lambda: not running.alive or both_run())
    code, _, err = running.end(number)
    assert (code, err.splitlines()[-1]) == (1, "interrupted; what was finished until then is kept.")
    found = records(lines)
    assert {r["stream"] for r in found} == {0, 1}
    films = sorted(video.iterdir())
    assert len(films) == 2
    assert not [p for p in films if p.name.startswith(".")]
    assert all(frames_of(p) > 1 for p in films)


def test_a_run_can_be_watched(model, tmp_path, started):
    running = started(LIVE, "-o", "preview:0", "--json", tmp_path / "live.jsonl", "--model", model, "--stats", "0.2")
    wait_until(lambda: not running.alive or "\n" in running.said)
    url = re.match(r"serving at (http://127\.0\.0\.1:\d+/)\n", running.said)
    assert url is not None

    def get(path: str) -> bytes:
        with urllib.request.urlopen(url[1] + path, timeout=20) as answer:
            return answer.read()

    def frames() -> float:
        found = re.search(rb'keyposs_frames_total\{[^}]*what="out"[^}]*\} (\d+)', get("metrics"))
        return float(found[1]) if found else 0

    wait_until(lambda: frames() > 5)
    picture = cv2.imdecode(np.frombuffer(get("stream/0.jpg"), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert b"<img" in get("")
    assert json.loads(get("health"))["healthy"]
    assert json.loads(get("stats.json"))["streams"][0]["counters"]["faces"] > 0
    code, _, err = running.end(signal.SIGTERM)
    assert code == 1
    assert re.search(r"^1 stream  \d+\.\d fps in", err, re.MULTILINE)


def test_the_figures_of_a_run_are_written_at_its_end(model, tmp_path):
    clip, figures = write_video(tmp_path / "clip.avi", 12), tmp_path / "figures.json"
    assert main(["run", str(clip), "--json", str(tmp_path / "a.jsonl"), "--stats-json", str(figures), "--model", model]) == 0
    (stream,) = json.loads(figures.read_text())["streams"]
    assert stream["counters"]["frames_out"] == 12
    assert stream["state"] == "ended"
    assert stream["queues"]["frames"]["largest"] <= stream["queues"]["frames"]["size"]
    (tmp_path / "file").write_text("x")
    assert main(["run", str(clip), "--stats-json", str(tmp_path / "file" / "x.json"), "--model", model]) == 1


def test_figures_overwrite_nothing(model, tmp_path, capsys):
    clip = write_video(tmp_path / "clip.avi", 2)
    before = clip.read_bytes()
    film, lines = str(tmp_path / "film.avi"), str(tmp_path / "lines.jsonl")
    for options, words in (
        (["--stats-json", str(clip)], "would overwrite the source"),
        (["-o", film, "--stats-json", film], "give two names"),
        (["--json", lines, "--stats-json", lines], "give two names"),
        (["--json", "-", "--stats-json", "-"], "cannot both go to standard output"),
    ):
        assert main(["run", str(clip), "--model", model, *options]) == 2
        assert words in capsys.readouterr().err
    assert clip.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clip.avi"]


def test_figures_do_not_overwrite_landmarks_in_a_folder(model, tmp_path, capsys):
    clip, folder = write_video(tmp_path / "clip.avi", 2), tmp_path / "lines"
    figures = folder / ".." / "lines" / "clip.jsonl"
    assert main(["run", str(clip), "--model", model, "--json", f"{folder}/", "--stats-json", str(figures)]) == 2
    assert "is the output of --stats-json and of -o or --json; give two names." in capsys.readouterr().err


def test_standard_output_under_another_name_holds_landmarks_alone(model, tmp_path, started):
    clip = write_video(tmp_path / "clip.avi", 2)
    out, _ = started(clip, "--model", model, "--json", "/dev/fd/1").process.communicate(timeout=60)
    assert [json.loads(line)["frame"] for line in out.splitlines()] == [0, 1]


def test_figures_can_go_to_standard_output_alone(model, tmp_path, capsys):
    clip = write_video(tmp_path / "clip.avi", 2)
    assert main(["run", str(clip), "--model", model, "--stats-json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["streams"][0]["counters"]["frames_out"] == 2
    assert "clip.avi: 2 frames" in err


def test_json_logs_are_json_alone(model, tmp_path, started):
    running = started(
        LIVE, tmp_path / "none.png", "--json", tmp_path / "a.jsonl", "--model", model, "--log", "json", "--metrics", "0", "--stats", "0.2"
    )
    wait_until(lambda: not running.alive or "There is no image" in running.said)
    code, _, err = running.end(signal.SIGTERM)
    assert code == 1
    said = [json.loads(line) for line in err.splitlines()]
    texts = "\n".join(record["text"] for record in said)
    assert "There is no image" in texts
    assert "serving at http://127.0.0.1:" in texts
    assert said[-1]["level"] in ("info", "error")
    assert "interrupted" in texts


def test_pictures_are_one_stream_of_the_preview(model, tmp_path):
    from keyposs_trt.cli.run import _previews
    from keyposs_trt.video.contract import Source
    from keyposs_trt.video.web import WebServer

    server = WebServer("0")
    sources = [Source("image", "a.png"), Source("test", "test://"), Source("image", "b.png"), Source("test", "test://")]
    previews = _previews(server, sources)
    assert previews[0] is previews[2]
    assert [title for path, title in server.titles().items() if path.endswith(".mjpg")] == ["images", "test://", "test://#2"]


def test_a_service_manager_hears_when_the_run_is_ready_and_stops(model, tmp_path, started):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(60)
        running = started(LIVE, "--json", tmp_path / "live.jsonl", "--model", model, environment={"NOTIFY_SOCKET": address})
        assert manager.recv(100) == b"READY=1"
        running.end(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"


def test_smoothing_is_for_live_sources_unless_asked_for(model, tmp_path):
    clip = write_video(tmp_path / "clip.avi", 25)
    found = {}
    for name, options in {"plain": [], "smooth": ["--smooth"], "no": ["--no-smooth"]}.items():
        lines = tmp_path / f"{name}.jsonl"
        assert main(["run", str(clip), "--json", str(lines), "--model", model, *options]) == 0
        found[name] = [r["faces"][0]["landmarks"] for r in records(lines)]
    assert found["plain"] == found["no"]
    assert found["plain"][0] == found["smooth"][0]
    assert found["plain"][5:] != found["smooth"][5:]


def test_a_disk_that_is_full_ends_the_stream_with_what_was_written(model, tmp_path):
    lines = tmp_path / "live.jsonl"
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); import signal; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from keyposs_trt.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "run", f"{LIVE}&live=0", "--json", str(lines), "--model", model]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: Cannot write '{lines}': File too large")
    whole = [line for line in lines.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert len([json.loads(line) for line in whole]) > 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "preview:no"], "no address to listen at"),
        (["--metrics", "99999"], "no address to listen at"),
        (["-o", "ftp://x/y"], "Results cannot be sent to 'ftp://x/y'"),
        (["-o", "a.mp4", "-o", "b.mp4"], "more than one file or folder"),
    ],
)
def test_places_that_make_no_sense(options, words, model, tmp_path, capsys):
    clip = write_video(tmp_path / "clip.avi", 2)
    assert main(["run", str(clip), "--model", model, *options]) == 2
    assert words in capsys.readouterr().err


def test_a_stream_that_is_not_there_is_an_error_with_a_remedy(model, capsys):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert main(["run", f"http://user:secret@127.0.0.1:{port}/video.mjpg", "--model", model]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "secret" not in err
