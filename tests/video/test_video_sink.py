"""Videos of sources whose time runs unevenly, and rows of videos; each plays, however the run ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sink_tools import picture, result_of, values

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.video.video_sink import VideoFileSink


def test_time_runs_true(tmp_path: Path) -> None:
    with VideoFileSink(tmp_path / "a.mp4", 10, live=False) as sink:
        assert sink.draws
        for i, time in enumerate([3, 3.01, 3.1, 3.4, 3.5]):
            sink.write(result_of(i, time), picture(40 * i))
        assert (sink.written, sink.files) == ("", 0)
    assert values(tmp_path / "a.mp4") == pytest.approx([0, 80, 80, 80, 120, 160], abs=4)
    assert (sink.written, sink.files) == (str(tmp_path / "a.mp4"), 1)


def test_a_row_goes_on_after_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "a-0004.mkv").write_text("old")
    with VideoFileSink(tmp_path / "a.mkv", 10, live=True, segment=0.5) as sink:
        for i in range(12):
            sink.write(result_of(i), picture(20 * i))
            done = sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("."))
            assert done == [f"a-{n:04d}.mkv" for n in range(4, 5 + i // 5)]  # each is there as soon as the next one begins
    rows = [values(tmp_path / f"a-000{n}.mkv") for n in (5, 6, 7)]
    assert [len(row) for row in rows] == [5, 5, 2]
    assert [value for row in rows for value in row] == pytest.approx([20 * i for i in range(12)], abs=4)
    assert sink.written == f"{tmp_path / 'a-0005.mkv'} to {tmp_path / 'a-0007.mkv'}"
    assert sink.files == 3
    assert (tmp_path / "a-0004.mkv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_gap_is_filled_across_files(tmp_path: Path) -> None:
    with VideoFileSink(tmp_path / "a.mp4", 10, live=True, segment=1) as sink:
        sink.write(result_of(0, 0.0), picture(50))
        sink.write(result_of(1, 2.5), picture(200))
    rows = [values(tmp_path / f"a-000{n}.mp4") for n in range(3)]
    assert [len(row) for row in rows] == [10, 10, 6]
    assert [value for row in rows for value in row] == pytest.approx([50] * 25 + [200], abs=4)


def test_a_segment_is_some_time(tmp_path: Path) -> None:
    for segment in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="holds nothing"):
            VideoFileSink(tmp_path / "a.mp4", 10, live=True, segment=segment)
    with VideoFileSink(tmp_path / "a.mp4", 10, live=True, segment=1e-6) as sink:
        sink.write(result_of(0), picture(0))
        sink.write(result_of(1), picture(0))
    assert sink.files == 2


def test_a_row_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"), VideoFileSink(tmp_path / "no" / "a.mp4", 10, live=True, segment=1) as sink:
        sink.write(result_of(0), picture(0))


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    for segment in (None, 1.0):
        with VideoFileSink(tmp_path / "a.mp4", 10, live=True, segment=segment) as sink:
            pass
        assert sink.written == ""
    assert list(tmp_path.iterdir()) == []


CHILD = """
import signal, sys
from pathlib import Path
import numpy as np
from sink_tools import result_of
from keyposs_trt.video.json_sinks import JsonFileSink
from keyposs_trt.video.video_sink import VideoFileSink

noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)

def stop(*_):
    raise SystemExit(3)

signal.signal(signal.SIGTERM, stop)
folder, name, segment = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]) or None
with VideoFileSink(folder / name, 10, True, segment=segment) as video, JsonFileSink(folder / "a.jsonl", live=True) as lines:
    for i in range(100_000):
        video.write(result_of(i), np.roll(noise, i, 1))
        lines.write(result_of(i), None)
        if i % 50 == 0:
            print(i, flush=True)
"""


def ended(folder: Path, name: str, how: signal.Signals, segment: float = 0) -> int:
    """Ends a process that writes, after some 150 frames."""
    command = [sys.executable, "-c", CHILD, str(folder), name, str(segment)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 150:
            pass
        child.send_signal(how)
        child.communicate()
    return child.returncode


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_sigterm_leaves_a_video_that_plays(tmp_path: Path, suffix: str) -> None:
    assert ended(tmp_path, f"a{suffix}", signal.SIGTERM) == 3
    lines = len((tmp_path / "a.jsonl").read_text().splitlines())
    assert lines > 150
    assert len(values(tmp_path / f"a{suffix}")) in (lines, lines + 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"a{suffix}", "a.jsonl"])


def test_sigkill_costs_one_file_of_a_row(tmp_path: Path) -> None:
    assert ended(tmp_path, "a.mp4", signal.SIGKILL, segment=2) == -signal.SIGKILL
    done = sorted(p for p in tmp_path.iterdir() if re.fullmatch(r"a-[0-9]{4}\.mp4", p.name))
    assert len(done) >= 7
    assert [len(values(p)) for p in done] == [20] * len(done)
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) >= 20 * len(done)


def test_the_hidden_file_of_a_killed_process_plays_as_mkv(tmp_path: Path) -> None:
    assert ended(tmp_path, "a.mkv", signal.SIGKILL) == -signal.SIGKILL
    (hidden,) = [p for p in tmp_path.iterdir() if p.suffix == ".mkv"]
    assert hidden.name.startswith(".a.")
    assert len(values(hidden)) >= 50  # but for what FFmpeg had not written yet
