"""What fails in a pipeline, and what then goes on."""

from __future__ import annotations

import threading
import time

import pytest
from streaming_tools import Finds, Keeps, Numbers, camera, raises_at, video, wait_until

from keyposs_trt.errors import InputError, OutputError
from keyposs_trt.video import pipeline as module
from keyposs_trt.video.contract import Event
from keyposs_trt.video.pipeline import VideoPipeline


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


def test_an_error_of_the_core_itself_is_raised(opens, monkeypatch):
    opens["0"] = Numbers(10**6, live=True)
    monkeypatch.setattr(module.Core, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        VideoPipeline(camera(), Finds(), Keeps()).run()
    opens["0"] = Numbers(10**6, live=True)
    with pytest.raises(ZeroDivisionError):
        list(VideoPipeline(camera(), Finds()))


def test_what_the_end_of_a_source_is_told_to_may_fail(opens):
    opens["clip.mp4"] = Numbers(40)

    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        VideoPipeline(video(), Finds(), on_end=fail).run()


def test_one_sink_in_place_of_a_list_of_them_is_an_error_not_a_hang(opens):
    opens["clip.mp4"] = Numbers(40)
    (summary,) = VideoPipeline(video(), Finds(), lambda *_: Keeps()).run()
    assert [type(e) for e in summary.sink_errors] == [TypeError]
    assert not summary.complete


def test_a_sink_that_does_not_know_whether_it_draws_is_an_error_not_a_hang(opens):
    opens["clip.mp4"] = Numbers(40)

    class Undecided(Keeps):
        def __getattribute__(self, name):
            if name == "draws":
                raise ZeroDivisionError
            return super().__getattribute__(name)

    with pytest.raises(ZeroDivisionError):
        VideoPipeline(video(), Finds(), Undecided()).run()


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


def test_a_source_that_cannot_be_closed_does_not_keep_the_next_from_its_turn(opens):
    class Sticks(Numbers):
        def close(self) -> None:
            raise OSError("stuck")

    opens["a.mp4"], opens["b.mp4"] = Sticks(3), Numbers(3)
    a, b = VideoPipeline([video("a.mp4"), video("b.mp4")], Finds(), at_once=1).run()
    assert (a.frames, str(a.error)) == (3, "stuck")
    assert (b.frames, b.error) == (3, None)
