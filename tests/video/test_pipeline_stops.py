"""Ending a pipeline before its sources end."""

from __future__ import annotations

import threading
import time

import pytest
from streaming_tools import Finds, Keeps, Numbers, alive, camera, sinks, video, wait_until

from keyposs_trt.errors import UsageError
from keyposs_trt.video import pipeline as module
from keyposs_trt.video.pipeline import VideoPipeline


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


def test_closing_a_pipeline_that_never_ran_does_nothing():
    with VideoPipeline(video(), Finds()) as pipeline:
        pass
    pipeline.close()
    pipeline.stop()
    assert pipeline.summaries == []


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
    assert [str(summary.error) for summary in pipeline.summaries] == [
        "'0' did not end within 0 s: a driver or an output hangs; look at what was written."
    ]
    go.set()
