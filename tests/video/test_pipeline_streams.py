"""The pipeline on a camera that comes and goes, and for long."""

from __future__ import annotations

import gc
import re
import threading
import tracemalloc
from collections import deque
from pathlib import Path

import numpy as np
from mjpeg_server import MjpegServer, jpeg
from streaming_tools import Finds, Keeps, video, wait_until

from keyposs_trt.video import pipeline as module
from keyposs_trt.video.contract import Frame
from keyposs_trt.video.pipeline import VideoPipeline
from keyposs_trt.video.statistics import Statistics

ROOT = Path(__file__).resolve().parents[2]


def test_a_camera_that_comes_and_goes():
    server = MjpegServer()
    port = server.port
    sink, events = Keeps(), []
    pipeline = VideoPipeline(
        f"http://127.0.0.1:{port}/stream#timeout=2", Finds(), sink, on_event=lambda source, event: events.append(event.kind)
    )
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    try:
        wait_until(lambda: len(sink.results) > 5)
        server.broken.append(jpeg(100)[:200])
        wait_until(lambda: "corrupt" in events)
        server.kill()
        wait_until(lambda: "lost" in events)
        before = len(sink.results)
        assert pipeline.statistics.snapshot()["streams"][0]["state"] == "lost"
        server = MjpegServer(port)
        server.data = jpeg(200, 96, 64)
        wait_until(lambda: "resumed" in events and len(sink.results) > before + 5, 40)
    finally:
        pipeline.stop()
        runner.join(30)
        server.kill()
    assert not runner.is_alive()
    assert "resized" in events
    assert sink.results[-1].frame.image.shape == (64, 96, 3)
    assert sink.numbers == sorted(sink.numbers)
    assert np.diff([r.frame.time for r in sink.results]).min() > 0
    counters = pipeline.statistics.snapshot()["streams"][0]["counters"]
    assert (counters["reconnects"], counters["corrupt_frames"]) == (1, 1)
    assert counters["gaps_seconds"] > 0


class Many:
    """Frames that are all one picture; measures what is held after each tenth of them."""

    fps, live = 25.0, False

    def __init__(self, count: int) -> None:
        self.count = count
        self.held: list[tuple[int, int]] = []

    def __iter__(self):
        image = np.zeros((60, 80, 3), np.uint8)
        for i in range(self.count):
            if i % (self.count // 10) == 0:
                gc.collect()  # what waits for it comes and goes
                self.held.append((tracemalloc.get_traced_memory()[0], len(list(Path("/proc/self/fd").iterdir()))))
            yield Frame(image, i, i / 25, 0.0)

    def close(self) -> None:
        pass


def test_memory_and_files_stay_flat(monkeypatch):
    frames, finds = Many(4000), Finds()
    finds.batches = deque(maxlen=1)  # or it would remember every frame
    monkeypatch.setattr(module, "open_source", lambda *_: frames)
    tracemalloc.start()
    try:
        (summary,) = VideoPipeline(video(), finds, smooth=True, statistics=Statistics()).run()
    finally:
        tracemalloc.stop()
    assert summary.frames == 4000
    bytes_, files = zip(*frames.held[3:], strict=True)
    assert max(bytes_) - min(bytes_) < 50_000  # 18 bytes a frame; a result alone has 3000
    assert len(set(files)) == 1


def test_the_page_tells_what_works():
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/runtime.md").read_text(), re.DOTALL)
    assert len(code) == 1
    printed: list[tuple[object, ...]] = []
    exec(code[0].replace('"examples/', f'"{ROOT}/examples/'), {"print": lambda *values: printed.append(values)})
    assert printed == [(f"{ROOT}/examples/astronaut.jpg", 0.0, [None])]
