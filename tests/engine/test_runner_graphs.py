"""The runner's CUDA graphs, and clones that share its engine, on a stand-in for TensorRT and for the GPU."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from fake_tensorrt import crops
from numpy.testing import assert_array_equal

from keyposs_trt.engine.cuda_graph import MOST
from keyposs_trt.errors import BackendError

# CUDA graphs


def test_a_batch_size_is_captured_at_its_second_use_and_replayed_from_then_on(machine):
    m = machine()
    with m.open() as runner:
        for _ in range(5):
            runner(crops(2))
        assert (m.happened.calls, m.happened.captured) == ([2, 2], [2])
        m.device.calls.clear()
        assert_array_equal(runner(crops(2, 3)).scores[:, 0], [3, 13])
        assert m.device.calls == ["current", "launch", "synchronise"]
        for count in (3, 1, 3, 1, 3, 2, 1):
            assert_array_equal(runner(crops(count)).scores[:, 0], 10 * np.arange(count))
    assert m.happened.captured == [2, 3, 1]


def test_no_more_graphs_than_there_is_room_for(machine):
    most = MOST + 3
    m = machine(batch=(1, 2, most))
    with m.open() as runner:
        for count in range(1, most + 1):
            runner(crops(count))
            runner(crops(count))
        assert len(m.device.graphs) == MOST
        assert_array_equal(runner(crops(1, 3)).scores[:, 0], [3])  # the oldest had to go and comes again
        assert_array_equal(runner(crops(most)).scores[:3, 0], [0, 10, 20])
        assert len(m.device.graphs) == MOST


def test_the_graph_that_is_used_stays(machine):
    m = machine(batch=(1, 2, MOST + 8))
    with m.open() as runner:
        for count in range(2, MOST + 9):
            for _ in range(2):
                runner(crops(count))
                runner(crops(1))
        assert m.happened.captured.count(1) == 1
        captured = len(m.happened.captured)
        for count in range(2, 9):  # those that had to go run plainly first, as new ones do
            runner(crops(count))
        assert len(m.happened.captured) == captured


@pytest.mark.parametrize("how", ["enqueue", "context", "begin_capture", "end_capture", "launched"])
def test_without_graphs_it_goes_on_plainly_and_says_so_once(machine, how, caplog):
    m = machine()
    m.happened.fail_captured = how == "enqueue"
    m.happened.no_context = 1 if how == "context" else 100
    m.device.fail = {how}
    with m.open() as runner, caplog.at_level(logging.WARNING):
        for i in range(4):
            assert_array_equal(runner(crops(2, i)).scores[:, 0], [i, 10 + i])
            assert_array_equal(runner(crops(3, i)).scores[:, 0], [i, 10 + i, 20 + i])
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == (0 if how == "launched" else 1)
    assert all("runs without CUDA graphs, a little slower" in text for text in messages)
    assert len(m.happened.calls) == (4 if how == "launched" else 8)


def test_rtx_that_cannot_be_captured_runs_plainly(machine, caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("KEYPOSS_CACHE", str(tmp_path))
    m = machine(rtx=True)
    m.happened.capturable = False
    with m.open() as runner:
        for _ in range(3):
            runner(crops(2))
    assert "it cannot be captured" in caplog.text
    assert m.happened.captured == []


# Clones


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_clones_share_the_engine_and_close_in_any_order(machine, order):
    m = machine()
    first = m.open()
    runners = [first, first.clone(), first.clone()]
    streams = len(m.device.streams) - 1
    assert streams == 3
    for i, runner in enumerate(runners * 3):
        assert_array_equal(runner(crops(2, i)).scores[:, 0], [i, 10 + i])
    del first, runner
    for i, number in enumerate(order):
        runners[number].close()
        if i < 2:
            left = runners[order[2]]
            assert_array_equal(left(crops(3)).scores[:, 0], [0, 10, 20])
            assert "engine" not in m.happened.ends
    assert m.happened.ends[-2:] == ["engine", "runtime"]
    assert set(m.happened.ends[:-2]) == {"context"}
    assert m.happened.ends.count("context") == m.happened.contexts


def test_a_clone_that_finds_no_room_leaves_nothing(machine):
    m = machine()
    with m.open() as runner:
        before = m.device.left()
        m.device.fail_at = len(m.device.calls) + 6
        with pytest.raises(BackendError, match="it was told to"):
            runner.clone()
        m.device.fail_at = 0
        assert m.device.left() == before
        assert len(runner(crops(1))) == 1
    assert m.happened.ends[-2:] == ["engine", "runtime"]
