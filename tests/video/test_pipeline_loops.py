"""A loop of the caller's own over the results, also an asynchronous one."""

from __future__ import annotations

import asyncio
import time

import pytest
from streaming_tools import Finds, Keeps, Numbers, alive, camera, video, wait_until

from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.video import pipeline as module
from keyposs_trt.video.pipeline import VideoPipeline


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


def test_leaving_a_loop_is_quick_when_results_wait(opens):
    opens["0"] = Numbers(10**6, live=True)
    start = time.monotonic()
    for _ in VideoPipeline(camera(), Finds()):
        time.sleep(0.2)  # all queues fill
        break
    assert time.monotonic() - start < module._PATIENCE / 2
    wait_until(lambda: (alive("capture"), alive("core"), alive("delivery")) == (0, 0, 0))


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


def test_a_sink_and_a_loop_do_not_go_together(opens):
    opens["clip.mp4"] = Numbers(2)
    with pytest.raises(UsageError, match="cannot be iterated"):
        next(iter(VideoPipeline(video(), Finds(), Keeps())))


def test_of_several_sources_the_error_of_one_is_logged(opens, caplog):
    opens["bad.mp4"], opens["good.mp4"] = InputError("It is damaged."), Numbers(3)
    assert len(list(VideoPipeline([video("bad.mp4"), video("good.mp4")], Finds()))) == 3
    assert "bad.mp4: It is damaged." in caplog.text
