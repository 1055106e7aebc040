"""Sources, core and sinks side by side, with made-up ones at both ends."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from streaming_tools import Finds, Keeps, Numbers, camera, video, wait_until

from keyposs_trt.errors import InputError, OutputError, UsageError
from keyposs_trt.video import pipeline as module
from keyposs_trt.video.contract import Event, Source
from keyposs_trt.video.pipeline import VideoPipeline


@pytest.fixture
def opens(monkeypatch):
    """Sources by name: what ``open_source`` gives, or raises."""
    table: dict[str, object] = {}

    def open_source(source, report=None):
        found = table[source.name]
        if isinstance(found, Exception):
            raise found
        return found(report) if callable(found) else found

    monkeypatch.setattr(module, "open_source", open_source)
    return table


def sinks(table):
    """A factory that makes a ``Keeps`` for every source, and puts it into the table."""

    def of(source, number, frames):
        table[source.name] = Keeps()
        return [table[source.name]]

    return of


def alive(name: str) -> int:
    return sum(t.name == name for t in threading.enumerate())


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


def test_a_sink_that_blocks_holds_up_only_its_own_stream(opens):
    go = threading.Event()
    opens["0"], opens["1"] = Numbers(200, live=True), Numbers(200, live=True, gate=lambda _: time.sleep(0.001))
    kept = {0: Keeps(lambda _: go.wait(30)), 1: Keeps()}
    pipeline = VideoPipeline([camera("0"), camera("1")], Finds(), lambda _, number, __: [kept[number]])
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    wait_until(lambda: kept[1].state == "closed")
    assert kept[1].numbers[-1] == 199
    assert kept[0].results == []
    go.set()
    runner.join(20)
    assert kept[0].numbers[-1] == 199


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


def test_a_source_that_cannot_be_opened_does_not_stop_the_others(opens):
    opens["bad.mp4"], opens["good.mp4"] = InputError("It is damaged."), Numbers(5)
    bad, good = sorted(VideoPipeline([video("bad.mp4"), video("good.mp4")], Finds()).run(), key=lambda s: s.source.name)
    assert str(bad.error) == "It is damaged."
    assert not bad.complete
    assert (good.frames, good.error) == (5, None)


@pytest.mark.parametrize("error", [InputError("It breaks off."), OSError("no such luck")])
def test_a_source_that_breaks_off_keeps_what_was_read(opens, error):
    def gate(i):
        if i == 3:
            raise error

    opens["clip.mp4"] = Numbers(9, gate=gate)
    sink = Keeps()
    (summary,) = VideoPipeline(video(), Finds(), sink).run()
    assert sink.numbers == [0, 1, 2]
    assert summary.error is error
    assert (sink.state, sink.error) == ("closed", error)


def test_a_frame_that_fails_is_told_and_the_stream_goes_on(opens):
    def trouble(image):
        if image[0, 0, 0] == 4:
            raise RuntimeError("boom")

    opens["clip.mp4"] = Numbers(9)
    sink = Keeps()
    pipeline = VideoPipeline(video(), Finds(trouble), sink)
    (summary,) = pipeline.run()
    assert [r.error for r in sink.results] == [None] * 4 + ["unexpected RuntimeError: boom"] + [None] * 4
    assert (summary.failed, summary.frame_error, summary.complete) == (1, "unexpected RuntimeError: boom", False)
    assert pipeline.statistics.snapshot()["streams"][0]["counters"]["frames_failed"] == 1


def raises_at(number, error):
    def trouble(result):
        if result.frame.index >= number:  # of a live source, any frame may be left out
            raise error

    return trouble


def test_a_sink_that_fails_is_closed_and_the_others_go_on(opens):
    opens["clip.mp4"] = Numbers(9)
    full = OutputError("The disk is full.")
    bad, good = Keeps(raises_at(3, full)), Keeps()
    (summary,) = VideoPipeline(video(), Finds(), lambda *_: [bad, good]).run()
    assert (bad.numbers, bad.state, bad.error) == ([0, 1, 2], "closed", full)
    assert good.numbers == list(range(9))
    assert summary.sink_errors == [full]
    assert not summary.complete


def test_a_stream_whose_results_nobody_takes_ends(opens):
    opens["0"] = Numbers(10**6, live=True, gate=lambda _: time.sleep(0.0005))
    (summary,) = VideoPipeline(camera(), Finds(), Keeps(raises_at(2, OutputError("Full.")))).run()
    assert [str(e) for e in summary.sink_errors] == ["Full."]
    assert opens["0"].closed.is_set()


def test_sinks_that_cannot_be_opened_end_their_stream_alone(opens):
    opens["a"], opens["b"] = Numbers(10**6, live=True, gate=lambda _: time.sleep(0.0005)), Numbers(5)

    def of(source, number, frames):
        if source.name == "a":
            raise OutputError("No room.")
        return [Keeps()]

    a, b = sorted(VideoPipeline([camera("a"), video("b")], Finds(), of).run(), key=lambda s: s.source.name)
    assert [str(e) for e in a.sink_errors] == ["No room."]
    assert b.complete


def test_what_nobody_looks_at_is_not_drawn(opens):
    opens["clip.mp4"] = Numbers(2)
    plain, drawing = Keeps(), Keeps(draws=True)
    VideoPipeline(video(), Finds(), lambda *_: [plain, drawing]).run()
    assert plain.drawn == [None, None]
    assert all((d != r.frame.image).any() for d, r in zip(drawing.drawn, drawing.results, strict=True))
    assert all((r.frame.image == r.frame.index).all() for r in drawing.results)  # drawn on a copy


def test_stopping_from_another_thread_finishes_the_files(opens):
    opens["0"] = Numbers(10**6, live=True, gate=lambda _: time.sleep(0.001))
    sink = Keeps()
    pipeline = VideoPipeline(camera(), Finds(), sink)
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    wait_until(lambda: len(sink.results) > 5)
    pipeline.stop()
    runner.join(20)
    assert not runner.is_alive()
    assert (sink.state, sink.error) == ("closed", None)
    assert pipeline.summaries[0].frames == len(sink.results)


def test_an_interruption_finishes_the_files(opens):
    opens["0"] = Numbers(10**6, live=True, gate=lambda _: time.sleep(0.001))
    sink = Keeps()

    def tick():
        if len(sink.results) > 3:
            raise KeyboardInterrupt

    pipeline = VideoPipeline(camera(), Finds(), sink)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(tick)
    assert sink.state == "closed"
    assert (alive("capture"), alive("core"), alive("delivery")) == (0, 0, 0)


def test_iterating_gives_every_result(opens):
    opens["a"], opens["b"] = Numbers(30), Numbers(30)
    found: dict[str, list[int]] = {"a": [], "b": []}
    with VideoPipeline([video("a"), video("b")], Finds()) as pipeline:
        for result in pipeline:
            found[result.source.name].append(result.frame.index)
    assert found == {"a": list(range(30)), "b": list(range(30))}
    assert len(pipeline.summaries) == 2


def test_leaving_the_loop_stops_everything(opens):
    opens["0"] = Numbers(10**6, live=True)
    for result in VideoPipeline(camera(), Finds()):
        if result.frame.index >= 3:
            break
    wait_until(lambda: (alive("capture"), alive("core"), alive("delivery")) == (0, 0, 0))
    assert opens["0"].closed.is_set()


def test_asynchronous_iteration_leaves_the_event_loop_free(opens):
    opens["clip.mp4"] = Numbers(30, gate=lambda _: time.sleep(0.002))
    beats = 0

    async def beat():
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    async def main():
        other = asyncio.create_task(beat())
        numbers = [result.frame.index async for result in VideoPipeline(video(), Finds())]
        other.cancel()
        return numbers

    assert asyncio.run(main()) == list(range(30))
    assert beats > 30


def test_an_asynchronous_loop_that_is_cancelled_stops_everything(opens):
    opens["0"] = Numbers(10**6, live=True, gate=lambda _: time.sleep(0.001))

    async def consume(seen):
        async for result in VideoPipeline(camera(), Finds()):
            seen.append(result)

    async def main():
        seen: list[object] = []
        task = asyncio.create_task(consume(seen))
        while len(seen) < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_until(lambda: (alive("capture"), alive("core"), alive("delivery")) == (0, 0, 0))


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


def test_an_error_of_the_core_itself_is_raised(opens, monkeypatch):
    opens["0"] = Numbers(10**6, live=True)
    monkeypatch.setattr(module.Core, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        VideoPipeline(camera(), Finds(), Keeps()).run()
    opens["0"] = Numbers(10**6, live=True)
    with pytest.raises(ZeroDivisionError):
        list(VideoPipeline(camera(), Finds()))


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


def test_closing_a_pipeline_that_never_ran_does_nothing():
    with VideoPipeline(video(), Finds()) as pipeline:
        pass
    pipeline.close()
    pipeline.stop()
    assert pipeline.summaries == []


def test_leaving_a_loop_is_quick_when_results_wait(opens):
    opens["0"] = Numbers(10**6, live=True)
    start = time.monotonic()
    for _ in VideoPipeline(camera(), Finds()):
        time.sleep(0.2)  # all queues fill
        break
    assert time.monotonic() - start < module._PATIENCE / 2
    wait_until(lambda: (alive("capture"), alive("core"), alive("delivery")) == (0, 0, 0))


@pytest.mark.parametrize("way", ["stop", "close"])
def test_a_pipeline_that_was_stopped_before_it_runs_ends_at_once(opens, way):
    opens["0"] = Numbers(10**6, live=True)
    pipeline = VideoPipeline(camera(), Finds())
    getattr(pipeline, way)()
    (summary,) = pipeline.run()
    assert summary.stopped
    assert not summary.complete


def test_a_second_run_is_refused_and_does_not_disturb_the_first(opens):
    opens["0"] = Numbers(10**6, live=True, gate=lambda _: time.sleep(0.001))
    sink = Keeps()
    pipeline = VideoPipeline(camera(), Finds(), sink)
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    wait_until(lambda: len(sink.results) > 2)
    with pytest.raises(UsageError, match="runs once"):
        pipeline.run()
    before = len(sink.results)
    wait_until(lambda: len(sink.results) > before + 2)
    pipeline.stop()
    runner.join(20)


def test_every_source_has_a_summary_also_when_it_was_stopped_before_its_turn(opens):
    names = [f"{i}.mp4" for i in range(5)]
    opens.update({name: Numbers(10**6, gate=lambda _: time.sleep(0.001)) for name in names})
    kept: dict[str, Keeps] = {}
    pipeline = VideoPipeline([video(n) for n in names], Finds(), sinks(kept), at_once=2)
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    wait_until(lambda: len(kept) == 2 and all(len(k.results) > 2 for k in kept.values()))
    pipeline.stop()
    runner.join(20)
    assert sorted(s.source.name for s in pipeline.summaries) == names
    assert all(s.stopped for s in pipeline.summaries)
    assert {k.state for k in kept.values()} == {"closed"}
    assert {s["state"] for s in pipeline.statistics.snapshot()["streams"]} == {"ended"}


@pytest.mark.parametrize("what", ["on_end", "sinks", "draws"])
def test_mistakes_of_the_caller_end_the_run_with_an_error_not_with_a_hang(opens, what):
    opens["clip.mp4"] = Numbers(40)

    def fail(_):
        raise ZeroDivisionError

    class Undecided(Keeps):
        draws = property(fail)  # type: ignore[assignment]

        def __init__(self):
            self.results = []

    if what == "on_end":
        with pytest.raises(ZeroDivisionError):
            VideoPipeline(video(), Finds(), on_end=fail).run()
        return
    sink = Undecided() if what == "draws" else Keeps()
    try:
        summaries = VideoPipeline(video(), Finds(), lambda *_: sink if what == "sinks" else [sink]).run()
    except ZeroDivisionError:
        return
    assert summaries[0].sink_errors


def test_a_sink_that_hangs_does_not_hang_the_end(opens, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.5)
    opens["0"] = Numbers(10**6, live=True, gate=lambda _: time.sleep(0.001))
    go = threading.Event()
    hung = threading.Event()
    pipeline = VideoPipeline(camera(), Finds(), Keeps(lambda _: (hung.set(), go.wait(60))))
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    hung.wait(20)
    pipeline.stop()
    runner.join(20)
    assert not runner.is_alive()
    go.set()


def test_an_error_of_the_only_source_ends_the_loop_with_it(opens):
    error = InputError("It breaks off.")

    def gate(i):
        if i == 3:
            raise error

    opens["clip.mp4"] = Numbers(9, gate=gate)
    found = []
    with pytest.raises(InputError, match="It breaks off"):
        found.extend(r.frame.index for r in VideoPipeline(video(), Finds()))
    assert found == [0, 1, 2]


def test_of_several_sources_the_error_of_one_is_logged(opens, caplog):
    opens["bad.mp4"], opens["good.mp4"] = InputError("It is damaged."), Numbers(3)
    assert len(list(VideoPipeline([video("bad.mp4"), video("good.mp4")], Finds()))) == 3
    assert "bad.mp4: It is damaged." in caplog.text


def test_a_sink_of_a_live_stream_that_fails_is_logged_at_once(opens, caplog):
    opens["0"] = Numbers(10**6, live=True, gate=lambda _: time.sleep(0.0005))
    good = Keeps()
    pipeline = VideoPipeline(camera(), Finds(), lambda *_: [Keeps(raises_at(2, OutputError("Full."))), good])
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    wait_until(lambda: "0: Full." in caplog.text)
    assert runner.is_alive()
    pipeline.stop()
    runner.join(20)
    assert good.state == "closed"


def test_a_callback_that_fails_does_not_end_the_stream(opens, caplog):
    def source(report):
        return Numbers(4, live=False, gate=lambda i: i == 1 and report(Event("resized", "Now it is larger.")))

    opens["clip.mp4"] = source

    def fail(source, event):
        raise ZeroDivisionError

    (summary,) = VideoPipeline(video(), Finds(), on_event=fail).run()
    assert (summary.frames, summary.error) == (4, None)
    assert "could not be told" in caplog.text


def test_a_sink_and_a_loop_do_not_go_together(opens):
    opens["clip.mp4"] = Numbers(2)
    with pytest.raises(UsageError, match="cannot be iterated"):
        next(iter(VideoPipeline(video(), Finds(), Keeps())))


def test_of_thousands_of_videos_the_figures_of_the_last_are_kept(opens):
    names = [f"{i}.mp4" for i in range(300)]
    opens.update({name: Numbers(2) for name in names})
    pipeline = VideoPipeline([video(n) for n in names], Finds())
    assert len(pipeline.run()) == 300
    snapshot = pipeline.statistics.snapshot()
    assert len(snapshot["streams"]) <= 80
    assert snapshot["earlier"]["streams"] + len(snapshot["streams"]) == 300
    assert snapshot["earlier"]["frames_out"] + sum(s["counters"]["frames_out"] for s in snapshot["streams"]) == 600
