"""Sources, core and sinks side by side, with made-up ones at both ends."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from streaming_tools import Finds, Keeps, Numbers, camera, sinks, video, wait_until

from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.video import pipeline as module
from keyposs_trt.video.contract import Event, Source
from keyposs_trt.video.pipeline import VideoPipeline


def test_every_frame_of_a_file_arrives_in_order(opens):
    opens["clip.mp4"] = Numbers(40)
    sink = Keeps()
    (summary,) = VideoPipeline(video(), Finds(), sink).run()
    assert sink.numbers == list(range(40))
    assert [int(r.frame.image[0, 0, 0]) for r in sink.results] == list(range(40))
    assert {r.stream for r in sink.results} == {0}
    assert {r.scheme for r in sink.results} == {"300w"}
    assert sink.state == "closed"
    assert (summary.frames, summary.with_faces, summary.most, summary.seconds) == (40, 40, 1, 39 / 25)
    assert summary.complete
    assert str(summary) == "clip.mp4: 40 frames, 1.6 s, 1 face in 40"
    assert opens["clip.mp4"].closed.is_set()


def test_what_a_slow_consumer_leaves_waiting_is_bounded(opens):
    read = []
    opens["clip.mp4"] = Numbers(100, gate=read.append)
    go = threading.Event()
    sink = Keeps(lambda _: go.wait(20))
    pipeline = VideoPipeline(video(), Finds(), sink)
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    wait_until(lambda: len(read) >= 2 * module.QUEUE)
    time.sleep(0.1)
    assert len(read) <= 2 * module.QUEUE + 4  # what the three threads hold, and the two queues
    go.set()
    runner.join(20)
    assert sink.numbers == list(range(100))


def test_of_a_live_source_the_newest_frame_wins(opens):
    worked_on = threading.Event()
    all_there = threading.Event()

    def gate(i):
        if i == 1:
            worked_on.wait(20)
        if i == 29:
            all_there.set()

    def trouble(image):
        worked_on.set()
        all_there.wait(20)

    opens["0"] = Numbers(30, live=True, gate=gate)
    sink = Keeps()
    (summary,) = VideoPipeline(camera(), Finds(trouble), sink).run()
    assert sink.numbers[0] == 0
    assert sink.numbers[-1] == 29
    assert len(sink.numbers) <= 4
    assert sink.numbers == sorted(sink.numbers)
    assert summary.dropped == 30 - len(sink.numbers)
    assert f"{summary.dropped} left out to keep up" in str(summary)


def test_a_stream_does_not_wait_for_a_slower_one(opens):
    release = threading.Event()
    opens["slow"] = Numbers(3, live=True, gate=lambda i: i == 0 or release.wait(20))
    opens["fast"] = Numbers(50, gate=lambda _: None)
    kept: dict[str, Keeps] = {}
    pipeline = VideoPipeline([camera("slow"), video("fast")], Finds(), sinks(kept))
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    wait_until(lambda: "fast" in kept and kept["fast"].state == "closed")
    assert kept["fast"].numbers == list(range(50))
    release.set()
    runner.join(20)
    assert kept["slow"].numbers[-1] == 2


def test_streams_take_turns_and_share_batches(opens):
    both = threading.Barrier(2)
    for name in "ab":
        opens[name] = Numbers(60, gate=lambda i: i or both.wait(20))
    finds = Finds(lambda _: time.sleep(0.001))  # slower than the sources: both always have a frame
    order: list[str] = []
    sink = [Keeps(lambda r: order.append(r.source.name)) for _ in range(2)]
    VideoPipeline([video("a"), video("b")], finds, lambda _, number, __: [sink[number]]).run()
    lead = np.cumsum([1 if name == "a" else -1 for name in order])
    assert sorted(order) == ["a"] * 60 + ["b"] * 60
    assert np.abs(lead).max() <= 4 * module.QUEUE
    assert finds.batches.count(2) > 30


def test_videos_are_worked_on_side_by_side_and_pictures_one_after_the_other(opens):
    open_now, most = set(), []

    def source(name):
        def gate(i):
            open_now.add(name)
            most.append(len(open_now))
            if i == 4:
                open_now.discard(name)

        return Numbers(5, gate=gate)

    names = [f"{i}.mp4" for i in range(9)]
    opens.update({name: source(name) for name in names})
    summaries = VideoPipeline([video(n) for n in names], Finds(), at_once=2).run()
    assert sorted(s.source.name for s in summaries) == names
    assert max(most) <= 2

    pictures = [Source("image", f"{i}.png") for i in range(9)]
    opens.update({p.name: Numbers(1) for p in pictures})
    order: list[str] = []
    pipeline = VideoPipeline(pictures, Finds(), lambda *_: [Keeps(lambda r: order.append(r.source.name))])
    pipeline.run()
    assert order == [p.name for p in pictures]
    assert [s["name"] for s in pipeline.statistics.snapshot()["streams"]] == ["images"]


def test_what_nobody_looks_at_is_not_drawn(opens):
    opens["clip.mp4"] = Numbers(2)
    plain, drawing = Keeps(), Keeps(draws=True)
    VideoPipeline(video(), Finds(), lambda *_: [plain, drawing]).run()
    assert plain.drawn == [None, None]
    assert all((d != r.frame.image).any() for d, r in zip(drawing.drawn, drawing.results, strict=True))
    assert all((r.frame.image == r.frame.index).all() for r in drawing.results)  # drawn on a copy


def test_events_are_counted_and_passed_on(opens):
    def source(report):
        def gate(i):
            if i == 1:
                report(Event("lost", "The stream was lost."))
                report(Event("resumed", "It is back.", seconds=1.5))
            if i == 2:
                report(Event("corrupt", "3 frames are damaged.", count=3))

        return Numbers(4, live=True, gate=gate)

    opens["0"] = source
    heard: list[tuple[str, str]] = []
    pipeline = VideoPipeline(camera(), Finds(), on_event=lambda source, event: heard.append((source.name, event.kind)))
    pipeline.run()
    assert heard == [("0", "lost"), ("0", "resumed"), ("0", "corrupt")]
    counters = pipeline.statistics.snapshot()["streams"][0]["counters"]
    assert (counters["reconnects"], counters["gaps_seconds"], counters["corrupt_frames"]) == (1, 1.5, 3)


def test_what_passes_through_is_counted(opens):
    opens["clip.mp4"] = Numbers(12)
    pipeline = VideoPipeline(video(), Finds(), Keeps(draws=True), detect_every=5)
    pipeline.run()
    (stream,) = pipeline.statistics.snapshot()["streams"]
    counters = stream["counters"]
    assert (counters["frames_in"], counters["frames_out"], counters["frames_dropped"], counters["faces"]) == (12, 12, 0, 12)
    assert set(stream["stages"]) == {"capture", "detect", "crop", "infer", "track", "draw", "write", "latency"}
    assert stream["stages"]["latency"]["total"]["count"] == 12
    assert stream["state"] == "ended"


def test_only_a_landmarker_of_its_own_is_closed(opens, monkeypatch):
    opens["clip.mp4"] = Numbers(2)
    given = Finds()
    VideoPipeline(video(), given).run()
    assert not given.closed
    own = Finds()
    monkeypatch.setattr(module.Landmarker, "load", lambda **_: own)
    opens["clip.mp4"] = Numbers(2)
    VideoPipeline(video()).run()
    assert own.closed


def test_without_a_detector_the_whole_frame_is_the_face(opens):
    opens["clip.mp4"] = Numbers(2)
    sink = Keeps()
    VideoPipeline(video(), Finds(detects=False), sink, detect=False).run()
    np.testing.assert_array_equal(sink.results[0].faces[0].box, [-0.5, -0.5, 79.5, 59.5])


def test_arguments_that_make_no_sense(opens, tmp_path):
    opens["clip.mp4"] = Numbers(2)
    with pytest.raises(UsageError, match="There is no source"):
        VideoPipeline([], Finds())
    with pytest.raises(InputError, match="nowhere"):
        VideoPipeline(str(tmp_path / "nowhere" / "*.png"), Finds())
    with pytest.raises(UsageError, match="at least 1"):
        VideoPipeline(video(), Finds(), max_faces=0)
    with pytest.raises(UsageError, match="One sink cannot take 2 sources"):
        VideoPipeline([video(), camera()], Finds(), Keeps())
    with pytest.raises(UsageError, match="no face detector"):
        VideoPipeline(video(), Finds(detects=False)).run()
    pipeline = VideoPipeline(video(), Finds())
    pipeline.run()
    with pytest.raises(UsageError, match="runs once"):
        pipeline.run()


def test_of_thousands_of_videos_the_figures_of_the_last_are_kept(opens):
    names = [f"{i}.mp4" for i in range(300)]
    opens.update({name: Numbers(2) for name in names})
    pipeline = VideoPipeline([video(n) for n in names], Finds())
    assert len(pipeline.run()) == 300
    snapshot = pipeline.statistics.snapshot()
    assert len(snapshot["streams"]) <= 80
    assert snapshot["earlier"]["streams"] + len(snapshot["streams"]) == 300
    assert snapshot["earlier"]["frames_out"] + sum(s["counters"]["frames_out"] for s in snapshot["streams"]) == 600


def test_pictures_have_their_figures_together_and_end_together(opens):
    names = [f"{n}.png" for n in range(6)]
    opens.update({name: Numbers(1) for name in names if name != "2.png"})
    states = []

    class Looks(Keeps):
        def write(self, result, drawn):
            states.append(pipeline.statistics.streams[0].snapshot()["state"])

    pipeline = VideoPipeline([Source("image", name) for name in names], Finds(), lambda *_: [Looks()])
    pipeline.run()
    assert states == ["running"] * 5
    (figures,) = pipeline.statistics.streams
    assert figures.snapshot()["state"] == "ended"
    assert figures.snapshot()["counters"]["frames_out"] == 5
