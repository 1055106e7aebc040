"""The stand-in for a GPU finds what it is there to find."""

from __future__ import annotations

import numpy as np
import pytest
from fake_device import RUBBISH, FakeDevice

from keyposs_trt.engine.device import LEGACY_STREAM
from keyposs_trt.errors import BackendError


@pytest.fixture
def device():
    fake = FakeDevice()
    with fake.current():
        yield fake


@pytest.fixture
def stream(device):
    return device.new_stream()


def blocks(device, stream, size=4):
    return device.allocate(size, stream), device.allocate_host(size, mapped=False)


def test_copies_are_done_when_somebody_waits(device, stream):
    there, here = blocks(device, stream)
    here.host[:] = 7
    device.copy(there.address, here.address, 4, stream)
    device.copy(here.address, there.address, 4, stream)
    assert (here.host == RUBBISH).all()
    here.host[:] = 5  # too early: the copy to the device has not been done
    device.synchronise(stream)
    assert (here.host == 5).all()


def test_a_stream_sees_of_another_only_what_it_waits_for(device, stream):
    there, here = blocks(device, stream)
    other = device.new_stream()
    here.host[:] = 7
    device.copy(there.address, here.address, 4, stream)
    device.synchronise(other)
    assert (device.get(there.address, (4,), np.uint8) == RUBBISH).all()
    device.follow(other, stream)
    device.synchronise(other)
    assert (device.get(there.address, (4,), np.uint8) == 7).all()


def test_memory_is_checked(device, stream):
    there, here = blocks(device, stream)
    with pytest.raises(AssertionError, match="over the end"):
        device.copy(there.address + 1, here.address, 4, stream)
    with pytest.raises(AssertionError, match="no memory"):
        device.copy(there.address + 4, here.address, 4, stream)
    device.copy(there.address, here.address, 4, stream)
    with pytest.raises(AssertionError, match="going on"):
        device.free(here, stream)


def test_freed_memory_is_gone_where_the_stream_comes_to_it(device, stream):
    there, here = blocks(device, stream)
    device.copy(there.address, here.address, 4, stream)
    device.free(there, stream)
    device.copy(there.address, here.address, 4, stream)  # put in before it is gone, done afterwards
    with pytest.raises(AssertionError, match="was freed"):
        device.synchronise(stream)
    with pytest.raises(AssertionError, match="twice"):
        device.free(there, stream)


def test_a_graph_repeats_what_was_captured(device, stream):
    there, here = blocks(device, stream)
    device.begin_capture(stream)
    device.copy(there.address, here.address, 4, stream)
    with pytest.raises(AssertionError, match="while a graph is captured"):
        device.synchronise(stream)
    graph = device.end_capture(stream)
    device.synchronise(stream)
    assert (device.get(there.address, (4,), np.uint8) == RUBBISH).all()
    for value in (1, 2):
        here.host[:] = value
        device.launch(graph, stream)
        device.synchronise(stream)
        assert (device.get(there.address, (4,), np.uint8) == value).all()
    device.end_graph(graph)


def test_a_call_that_failed_spoils_the_graph(device, stream):
    there, here = blocks(device, stream)
    device.begin_capture(stream)
    device.fail = {"copy"}
    with pytest.raises(BackendError, match="it was told to"):
        device.copy(there.address, here.address, 4, stream)
    with pytest.raises(BackendError, match="broken"):
        device.end_capture(stream)
    assert "captures" not in device.left()


def test_what_is_left_is_told(device, stream):
    there, here = blocks(device, stream)
    assert device.left() == {"streams": 1, "blocks": 2}
    device.free(there, stream)
    device.free(here, stream)
    device.end_stream(stream)
    assert device.left() == {}
    assert LEGACY_STREAM in device.streams


def test_calls_outside_the_context_are_found():
    device = FakeDevice()
    with pytest.raises(AssertionError, match="without the device's context"):
        device.new_stream()


def test_calls_fail_as_told(device, stream):
    device.fail_at = len(device.calls) + 2
    device.synchronise(stream)
    with pytest.raises(BackendError, match="synchronise"):
        device.synchronise(stream)
    device.synchronise(stream)
    device.fail_at, device.sticky = 1, True
    for _ in range(2):
        with pytest.raises(BackendError):
            device.synchronise(stream)


def test_memory_is_limited():
    device = FakeDevice(room=10)
    with device.current():
        stream = device.new_stream()
        device.allocate(8, stream)
        with pytest.raises(BackendError, match="out of memory"):
            device.allocate(3, stream)
