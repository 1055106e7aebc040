"""Crops and results that stay on the GPU: whose memory, in whose order, and until when."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from array_tools import CudaStream, Exchanged, Interface, fill_later
from fake_device import FakeDevice
from fake_preprocess import FakePreprocess
from fake_tensorrt import POINTS, SIZE, Machine, crops
from numpy.testing import assert_allclose, assert_array_equal

from keyposs_trt.crop import crop_faces
from keyposs_trt.engine import dlpack
from keyposs_trt.engine.device import LEGACY_STREAM
from keyposs_trt.engine.device_arrays import is_device_array, stream_handle, view_of
from keyposs_trt.errors import BackendError, UsageError


def users_stream(m: Machine) -> int:
    with m.device.current():
        m.users_streams.append(m.device.new_stream())
    return m.users_streams[-1]


def wait(m: Machine, stream: int) -> None:
    with m.device.current():
        m.device.synchronise(stream)


def values(m: Machine, array) -> np.ndarray:
    """What an array on the device holds now, through the interface that libraries use."""
    interface = array.__cuda_array_interface__
    assert (interface["version"], interface["strides"], interface["typestr"]) == (3, None, "<f4")
    return m.device.get(interface["data"][0], interface["shape"], np.float32)


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_results_stay_and_are_ready(machine, count, integrated):
    m = machine(device=FakeDevice(integrated=integrated))
    with m.open() as runner:
        for start in range(4):
            for given in (crops(count, start), Interface(m.device, crops(count, start))):
                out = runner.on_device(given)
                assert len(out) == count
                assert out.landmarks.shape == (count, POINTS, 2)
                assert out.covariance.__cuda_array_interface__["stream"] is None
                for array in (out.landmarks, out.scores, out.covariance):
                    rows = start + 10.0 * np.arange(count)
                    assert_array_equal(values(m, array), np.broadcast_to(rows.reshape(-1, *[1] * len(array.shape[1:])), array.shape))


def test_in_somebodys_stream_nobody_else_waits(machine):
    m = machine()
    stream = users_stream(m)
    with m.open() as runner:
        given = Exchanged(m.device, np.zeros((4, SIZE, SIZE, 3), np.uint8), stream)
        for start in range(5):
            fill_later(m.device, given.address, crops(4, start), stream)
            m.device.calls.clear()
            out = runner.on_device(given, stream=stream)
            if start == 4:  # a replay
                assert [c for c in m.device.calls if c.startswith("sync")] == ["synchronise"]  # for the call before
            assert not (values(m, out.scores)[:, 0] == start + 10 * np.arange(4)).all()
            wait(m, stream)
            assert_array_equal(values(m, out.scores)[:, 0], start + 10 * np.arange(4))
            assert out.scores.__cuda_array_interface__["stream"] == stream
        assert given.asked == [LEGACY_STREAM] * 5
        assert m.happened.captured == [4]


def test_input_is_waited_for_in_every_stream_it_may_come_from(machine):
    m = machine()
    stream, other = users_stream(m), users_stream(m)
    with m.open() as runner:
        for named, filled in ((None, stream), (None, LEGACY_STREAM), (other, other)):
            for given in ({"stream": stream}, {}):
                if filled == stream and not given:
                    continue  # nobody has said where it is made
                array = Interface(m.device, crops(1), named)
                fill_later(m.device, array.address, crops(1, 7), filled)
                out = runner.on_device(array, **given)
                wait(m, stream)
                assert values(m, out.scores)[0, 0] == 7


def test_closing_waits_for_what_is_at_work(machine):
    m = machine()
    stream = users_stream(m)
    for failing in (False, True):
        runner = m.open()
        out = runner.on_device(crops(1, 7), stream)
        if failing:
            m.device.fail_at = len(m.device.calls) + 2  # the first thing after the context
        runner.close()
        assert values(m, out.scores)[0, 0] == 7


def test_more_crops_than_the_largest_batch_in_somebodys_stream(machine):
    m = machine()
    stream = users_stream(m)
    with m.open() as runner:
        on_gpu = Interface(m.device, np.zeros((9, SIZE, SIZE, 3), np.uint8), stream)
        for start in range(3):
            fill_later(m.device, on_gpu.address, crops(9, start), stream)
            out, other = runner.on_device(on_gpu, stream=stream), runner.on_device(crops(9, 3 + start), stream=stream)
            wait(m, stream)
            assert_array_equal(values(m, out.scores)[:, 0], start + 10 * np.arange(9))
            assert_array_equal(values(m, other.scores)[:, 0], 3 + start + 10 * np.arange(9))


def test_the_crops_of_a_call_are_kept_until_it_is_done(machine):
    m = machine()
    stream = users_stream(m)

    class Mortal(Interface):
        def __del__(self) -> None:
            m.device.find(self.address, SIZE)[:] = 255

    with m.open() as runner:
        out = runner.on_device(Mortal(m.device, crops(1, 7)), stream=stream)
        gc.collect()
        wait(m, stream)
        assert values(m, out.scores)[0, 0] == 7


def test_crops_where_they_do_not_suit_tensorrt_are_moved(machine):
    m = machine(batch=(2, 3, 4))
    whole = Interface(m.device, crops(4, 5))
    row = SIZE * SIZE * 3
    shifted = Interface(m.device, np.concatenate([np.zeros(8, np.uint8), crops(2, 9).reshape(-1)]))
    shifted.__cuda_array_interface__ |= {"shape": (2, SIZE, SIZE, 3), "data": (shifted.address + 8, False)}
    last = Interface(m.device, np.zeros(1, np.uint8))
    last.__cuda_array_interface__ |= {"shape": (1, SIZE, SIZE, 3), "data": (whole.address + 3 * row, False)}
    with m.open() as runner:
        for _ in range(3):
            assert_array_equal(values(m, runner.on_device(shifted).scores)[:, 0], [9, 19])
            assert_array_equal(values(m, runner.on_device(last).scores)[:, 0], [35])  # fewer than the smallest batch
            assert_array_equal(values(m, runner.on_device(whole).scores)[:, 0], [5, 15, 25, 35])
    assert m.happened.captured == [2, 4]


def test_results_have_memory_of_their_own_until_nobody_looks(machine):
    m = machine()
    runner = m.open()
    before = len([b for b in m.device.blocks if not b.freed])
    first, second = runner.on_device(crops(2, 1)), runner.on_device(crops(2, 2))
    assert_array_equal(values(m, first.scores)[:, 0], [1, 11])
    scores = second.scores
    del first, second
    gc.collect()
    runner.on_device(crops(1))
    gc.collect()
    runner(crops(1))
    assert len([b for b in m.device.blocks if not b.freed]) == before + 2  # one is looked at, the other will go next time
    runner.close()
    assert_array_equal(values(m, scores)[:, 0], [2, 12])  # also after the runner
    assert m.device.left() == {"blocks": 1}
    del scores
    gc.collect()
    assert m.device.left() == {}


def test_memory_is_not_used_again_while_somebody_reads_it(machine):
    m = machine()
    stream, reader = users_stream(m), users_stream(m)
    seen = []

    def read_later(array, where: int) -> None:
        address = array.address
        with m.device.current():
            m.device.enqueue("read", where, lambda: seen.append(float(m.device.get(address, (1,), np.float32)[0])), [(address, 4)], [])

    with m.open() as runner:
        out = runner.on_device(crops(1, 7), stream=stream)
        read_later(out.scores, stream)
        capsule = out.scores.__dlpack__(stream=reader)  # a second reader, whose order nobody knows later
        read_later(out.scores, reader)
        del out, capsule
        gc.collect()
        runner.on_device(crops(1, 9), stream=stream)
        wait(m, stream)
        wait(m, reader)
    assert seen == [7, 7]


def test_dlpack_orders_the_readers_stream(machine):
    m = machine()
    stream, reader = users_stream(m), users_stream(m)
    with m.open() as runner:
        for asked, waits_in in ((reader, reader), (None, LEGACY_STREAM)):
            out = runner.on_device(crops(1, 7), stream=stream)
            assert out.scores.__dlpack_device__() == (dlpack.CUDA, 0)
            address, shape, _, dtype = dlpack.read_capsule(out.scores.__dlpack__(stream=asked, max_version=(1, 0)))
            assert (address, shape, dtype) == (out.scores.address, (1, POINTS), np.float32)
            assert values(m, out.scores)[0, 0] != 7
            wait(m, waits_in)
            assert values(m, out.scores)[0, 0] == 7
        m.device.calls.clear()
        out.scores.__dlpack__(stream=-1)
        out.scores.__dlpack__(stream=stream)
        assert m.device.calls == []
        with pytest.raises(BufferError, match="stay where they are"):
            out.scores.__dlpack__(copy=True)
        with pytest.raises(BufferError):
            out.scores.__dlpack__(dl_device=(dlpack.CPU, 0))


def test_frames_whose_results_stay(machine):
    m = machine()
    stream = users_stream(m)
    rng = np.random.default_rng(1)
    frames = [np.repeat(np.repeat(rng.integers(0, 255, (5, 6, 3), np.uint8), 10, 0), 10, 1) for _ in range(2)]
    parts = [np.array([[20, 20, 20], [30, 25, 30], [25, 25, 16]], np.float32), np.array([[30, 20, 18], [20, 20, 40]], np.float32)]
    made = [crop_faces(f, s, SIZE) for f, s in zip(frames, parts, strict=True)]
    means = np.concatenate([c for c, _ in made]).mean((1, 2, 3))
    with m.open(library=FakePreprocess(m.device)) as runner:
        for _ in range(4):
            out, maps = runner.frames_on_device(frames, parts, stream)
            wait(m, stream)
            assert_allclose(values(m, out.scores)[:, 0], means, atol=1)
        ready, _ = runner.frames_on_device(frames, parts)
        assert_allclose(values(m, ready.scores)[:, 0], means, atol=1)
    assert_allclose(maps, np.concatenate([m for _, m in made]))


def test_what_cannot_be(machine):
    m = machine()
    with m.open() as runner:
        with pytest.raises(UsageError, match=r"takes crops of uint8 \[N, 16, 16, 3\], not float32"):
            runner.on_device(Interface(m.device, np.zeros((1, SIZE, SIZE, 3), np.float32)))
        with pytest.raises(UsageError, match="with gaps"):
            runner.on_device(Interface(m.device, crops(2), strides=(9 * SIZE * SIZE, 3 * SIZE, 3, 1)))
        with pytest.raises(UsageError, match="list is no array on the GPU"):
            runner.on_device([1])
        with pytest.raises(UsageError, match="str is no CUDA stream"):
            runner.on_device(crops(1), stream="main")
        foreign = Interface(m.device, crops(1))
        m.device.foreign.add(foreign.address)
        with pytest.raises(BackendError, match="another CUDA context"):
            runner.on_device(foreign)
    with pytest.raises(BackendError, match="is closed"):
        runner.on_device(crops(1))


def test_a_model_without_a_decoder_has_no_results_there(machine):
    m = machine(decoder="none")
    with m.open() as runner, pytest.raises(UsageError, match="has no decoder"):
        runner.on_device(crops(1))


def test_an_error_in_any_call_leaves_the_runner_usable(machine):
    m = machine()
    stream = users_stream(m)
    given = Interface(m.device, crops(5, 1))
    failed = 0
    with m.open() as runner:
        for k in range(1, 60):
            m.device.fail_at = len(m.device.calls) + 1 + k % 25
            try:
                runner.on_device(given, stream)
            except BackendError:
                failed += 1
                if m.device.calls[m.device.fail_at - 1] != "current":  # work whose input may go now is over
                    [queue] = [q for s, q in m.device.streams.items() if s not in (stream, LEGACY_STREAM)]
                    assert {op.name for op in queue} <= {"wait", "free"}
            m.device.fail_at = 0
            out = runner.on_device(given, stream)
            wait(m, stream)
            assert_array_equal(values(m, out.scores)[:, 0], 1 + 10 * np.arange(5))
            del out
    assert failed > 20


@pytest.mark.parametrize("kind", ["protocol", "cuda_stream", "ptr", "handle"])
@pytest.mark.parametrize(("handle", "expected"), [(77, 77), (0, LEGACY_STREAM)])
def test_streams_of_all_libraries(kind, handle, expected):
    assert stream_handle(CudaStream(handle, kind)) == expected
    assert stream_handle(handle) == expected


@pytest.mark.parametrize("stream", [True, -1, 1.5, None, "0"])
def test_what_is_no_stream(stream):
    with pytest.raises(UsageError, match="is no CUDA stream"):
        stream_handle(stream)


def test_looking_at_arrays():
    device = FakeDevice()
    array = Interface(device, np.zeros((2, 3), np.float16), stream=2)
    view = view_of(array)
    assert (view.address, view.shape, view.strides, view.dtype, view.stream) == (array.address, (2, 3), (6, 2), np.float16, 2)
    assert view_of(Interface(device, np.zeros(3))).stream == LEGACY_STREAM
    assert view.contiguous
    assert not view_of(Interface(device, np.zeros((2, 3)), strides=(48, 16))).contiguous
    assert is_device_array(array)
    assert is_device_array(Exchanged(device, np.zeros(3), 1))
    assert not is_device_array(np.zeros(3))
    assert not is_device_array("text")
