"""The sinks that the texts of the command line stand for, with sources of all kinds."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import pytest
from sink_tools import picture, result_of, values

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.video import outputs as module
from keyposs_trt.video import window
from keyposs_trt.video.contract import Source
from keyposs_trt.video.json_sinks import JsonFileSink, JsonSink
from keyposs_trt.video.outputs import Outputs
from keyposs_trt.video.simple_sinks import ImageSink, NullSink
from keyposs_trt.video.video_sink import VideoFileSink

if TYPE_CHECKING:
    from pathlib import Path

    from keyposs_trt.video.contract import Sink

SOURCES = [Source("image", "face.jpg"), Source("video", "walk.webm"), Source("rtsp", "rtsp://u:p@cam1/s"), Source("camera", "0")]


def opened(outputs: Outputs, stream: int, sources: list[Source] = SOURCES) -> list[Sink]:
    live = sources[stream].kind not in ("image", "video")
    return outputs.sinks(sources[stream], stream, SimpleNamespace(fps=10.0, live=live, count=None))  # type: ignore[arg-type]


def run(outputs: Outputs, sources: list[Source] = SOURCES, frames: int = 3) -> None:
    for stream, source in enumerate(sources):
        for sink in opened(outputs, stream, sources):
            with sink:
                for i in range(1 if source.kind == "image" else frames):
                    result = result_of(i, source=source, stream=stream)
                    sink.write(result, picture(20 * i) if sink.draws else None)


def test_everything_of_several_sources(tmp_path: Path) -> None:
    with Outputs(SOURCES, [f"{tmp_path}/out?segment=0.2", "preview:0.0.0.0:80"], f"{tmp_path}/all.jsonl") as outputs:
        assert outputs.preview == "0.0.0.0:80"
        assert [path and path.name for path in outputs.files] == ["face.jpg", "walk.mp4", "rtsp-cam1-s.mp4", "camera0.mp4"]
        assert [type(sink) for sink in opened(outputs, 0)] == [ImageSink, JsonSink]
        assert [type(sink) for sink in opened(outputs, 2)] == [VideoFileSink, JsonSink]
        assert outputs.written(0) == ""
        run(outputs)
        outputs.poll()
        outputs.wait()
        assert not outputs.stop
    out = tmp_path / "out"
    assert [outputs.written(i) for i in range(2)] == [f"{out}/face.jpg", f"{out}/walk-0000.mp4 to {out}/walk-0001.mp4"]
    assert {p.name: len(values(p)) for p in out.glob("*.mp4")} == {
        f"{stem}-000{n}.mp4": 2 - n for stem in ("walk", "rtsp-cam1-s", "camera0") for n in (0, 1)
    }
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [(line["stream"], line["frame"]) for line in lines] == [(0, 0), *((s, f) for s in (1, 2, 3) for f in range(3))]
    assert outputs.records is not None
    assert outputs.records.live
    assert outputs.records.lines == 10


def test_a_folder_of_records(tmp_path: Path) -> None:
    with Outputs(SOURCES, ["null:"], f"{tmp_path}/new/?rotate=1GB") as outputs:
        assert [type(sink) for sink in opened(outputs, 1)] == [JsonFileSink, NullSink]
        assert not any(sink.draws for sink in opened(outputs, 1))
        assert outputs.records is None
        run(outputs)
        assert outputs.written(1) == ""
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["camera0.jsonl", "face.jsonl", "rtsp-cam1-s.jsonl", "walk.jsonl"]


def test_nothing_and_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Outputs(SOURCES) as outputs:
        assert opened(outputs, 0) == opened(outputs, 3) == []
    with Outputs(SOURCES, [], "-") as outputs:
        run(outputs, frames=1)
    assert len(capsys.readouterr().out.splitlines()) == 4
    with Outputs(SOURCES[:1], [], f"{tmp_path}/a.jsonl") as outputs:
        assert outputs.records is not None
        assert not outputs.records.live


def test_texts_that_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_text("x")
    face = [Source("image", str(tmp_path / "face.jpg"))]
    for sources, pictures, records, match in (
        (SOURCES, ["a.mp4"], None, "4 sources; give a folder"),
        (SOURCES, ["a/", "b/"], None, "more than one"),
        (SOURCES, [], "null:", "JSON lines go to"),
        (SOURCES, [], "window:", "JSON lines go to"),
        (SOURCES, [], "a.jsonl?segment=5", "rotate=BYTES"),
        (SOURCES[:2], [], "a.jsonl?rotate=5MB", "cameras and streams"),
        (face, [], str(tmp_path / "face.jpg"), "overwrite the source"),
        (face, [str(tmp_path)], None, "overwrite the source"),
        (face, [f"{tmp_path}/out/?segment=5"], None, "segment is for videos; leave it out"),
        (SOURCES[1:2], [str(tmp_path / "x.mp4")], str(tmp_path / "x.mp4"), "both -o and --json"),
    ):
        with pytest.raises(UsageError, match=match):
            Outputs(sources, pictures, records)
    with pytest.raises(OutputError, match="Cannot write"), Outputs(SOURCES, [], "/proc/x.jsonl"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["face.jpg"]


class Windows:
    """A screen that shows what it is given until its last key."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: set[str] = set()
        self.keys: list[int] = []
        monkeypatch.setattr(window, "_require_screen", lambda: None)
        monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: self.open.add(title))
        monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "imshow", lambda *_: None)
        monkeypatch.setattr(cv2, "pollKey", lambda: self.keys.pop(0) if self.keys else -1)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda title, what: float(title in self.open))
        monkeypatch.setattr(cv2, "destroyWindow", self.open.remove)


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Windows(monkeypatch)
    sources = [*SOURCES, Source("image", "b.jpg"), Source("video", "other/walk.mp4")]
    with Outputs(sources, show=True) as outputs:
        streams = [opened(outputs, n, sources)[0] for n in range(len(sources))]
        assert streams[0] is streams[4]  # all pictures in one window
        for n, sink in enumerate(streams):
            sink.__enter__()
            sink.write(result_of(0, source=sources[n], stream=n), picture(1))
        outputs.poll()
        assert screen.open == {
            "keyposs-trt", "keyposs-trt: walk", "keyposs-trt: rtsp-cam1-s", "keyposs-trt: camera0", "keyposs-trt: walk (5)",
        }  # fmt: skip
        streams[0].__exit__(None, None, None)
        streams[1].__exit__(None, None, None)
        outputs.poll()
        assert screen.open == {"keyposs-trt", "keyposs-trt: rtsp-cam1-s", "keyposs-trt: camera0", "keyposs-trt: walk (5)"}
        assert not outputs.stop
        screen.keys = [-1, -1, 27]
        outputs.poll()
        assert outputs.stop
    assert screen.open == set()


def test_the_last_picture_stays_until_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Windows(monkeypatch)
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    with Outputs(SOURCES[:1], ["window:Faces"]) as outputs:
        run(outputs, SOURCES[:1])
        screen.keys = [-1] * 5 + [ord("q")]
        outputs.wait()
        assert screen.open == {"Faces"}
        assert len(waits) == 5
    assert screen.open == set()
    with Outputs(SOURCES[1:2], ["window:"]) as outputs:
        run(outputs, SOURCES[1:2])
        outputs.wait()  # a video that has ended is no picture to look at
    assert screen.open == set()
