"""Several streams in one file, and each in its own."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from sink_tools import result_of

from keyposs_trt.errors import OutputError
from keyposs_trt.video.contract import Source
from keyposs_trt.video.json_sinks import JsonFolder, JsonSink
from keyposs_trt.video.jsonl import JsonLines

if TYPE_CHECKING:
    from pathlib import Path


def test_streams_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"

    def write(stream: int, records: JsonLines) -> None:
        with JsonSink(records) as sink:
            assert not sink.draws
            for i in range(50):
                sink.write(result_of(i, source=Source("rtsp", f"rtsp://cam{stream}/"), stream=stream, faces=i % 3), None)

    with JsonLines(str(path), live=True) as records:
        threads = [threading.Thread(target=write, args=(n, records)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        records.write({"still": "open"})
    *lines, last = [json.loads(line) for line in path.read_text().splitlines()]
    assert last == {"still": "open"}
    for n in range(4):
        mine = [line for line in lines if line["stream"] == n]
        assert {line["source"] for line in mine} == {f"rtsp://cam{n}/"}
        assert [line["frame"] for line in mine] == list(range(50))
        assert [len(line["faces"]) for line in mine] == [i % 3 for i in range(50)]


def test_each_stream_has_its_file(tmp_path: Path) -> None:
    sources = [Source("video", "a/x.mp4"), Source("video", "b/x.mp4"), Source("camera", "0")]
    folder = JsonFolder(str(tmp_path / "new"), sources, rotate=400)
    assert [path.name for path in folder.paths] == ["x.jsonl", "x-2.jsonl", "camera0.jsonl"]
    for stream, live in ((0, False), (1, False), (2, True)):
        with folder.sink(stream, live=live) as sink:
            for i in range(5):
                sink.write(result_of(i, stream=stream), None)
                assert folder.paths[stream].exists() == live
    assert [json.loads(line)["stream"] for line in folder.paths[1].read_text().splitlines()] == [1] * 5
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "camera0-0000.jsonl", "camera0.jsonl", "x-2.jsonl", "x.jsonl",
    ]  # fmt: skip


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    folder = JsonFolder(str(tmp_path), [Source("video", "x.mp4")])
    (tmp_path / "x.jsonl").mkdir()
    with pytest.raises(OutputError, match="is a folder"), folder.sink(0, live=False):
        pass
