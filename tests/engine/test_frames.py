"""Whole frames through the runner: what goes to the GPU, when, and what comes back."""

from __future__ import annotations

import numpy as np
import pytest
from array_tools import Exchanged, Interface, fill_later
from fake_device import FakeDevice
from fake_preprocess import FakePreprocess
from fake_tensorrt import SIZE
from numpy.testing import assert_allclose

from keyposs_trt.crop import crop_faces
from keyposs_trt.engine import preprocess_library, tensorrt_runner
from keyposs_trt.engine.frames import DeviceFrame, FrameRunner, pieces
from keyposs_trt.engine.preprocess_library import PixelFormat
from keyposs_trt.errors import BackendError, UsageError


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture of many colours."""
    rows, columns = np.mgrid[:height, :width]
    colours = np.stack([rows * 3 + seed * 40, columns * 2 + seed * 17, rows + columns], 2)
    return (np.abs(colours % 400 - 200) + 20).astype(np.uint8)


def squares(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 3)


def expected(frames, parts):
    made = [crop_faces(f, s, SIZE) for f, s in zip(frames, parts, strict=True)]
    return np.concatenate([c for c, _ in made]).mean((1, 2, 3)), np.concatenate([m for _, m in made])


FRAMES = [picture(40, 60, 1), picture(90, 50, 2), picture(64, 64, 3)]
PARTS = [
    squares((20, 20, 24), (40, 15, 16), (2, 3, 30)),
    squares(),
    squares((30, 30, 60), (32, 31, 20), (60, 60, 25)),
]


@pytest.mark.parametrize("integrated", [False, True])
def test_faces_of_several_frames(machine, integrated):
    m = machine(device=FakeDevice(integrated=integrated))
    library = FakePreprocess(m.device)
    means, maps = expected(FRAMES, PARTS)
    with m.open(library=library) as runner:
        assert isinstance(runner, FrameRunner)
        for _ in range(4):
            outputs, matrices = runner.on_frames(FRAMES, PARTS)
            assert_allclose(outputs.scores[:, 0], means, atol=1)
            assert_allclose(matrices, maps)
        mirrored = [f[:, ::-1] for f in FRAMES]
        assert_allclose(runner.on_frames(mirrored, PARTS)[0].scores[:, 0], expected(mirrored, PARTS)[0], atol=1)
    # Two plain runs and a capture of four faces, and of two; then replays.
    assert library.launches == [4, 2, 4, 4, 2, 2]


def test_a_frame_goes_up_once_for_all_its_faces(machine):
    m = machine()
    faces = squares(*[(10 + i, 12, 14) for i in range(10)])
    with m.open(library=FakePreprocess(m.device)) as runner:
        for _ in range(3):
            outputs, _ = runner.on_frames(FRAMES[:1], [faces])
        m.device.calls.clear()
        outputs, _ = runner.on_frames(FRAMES[:1], [faces])
        assert m.device.calls == ["current", "copy", "launch", "synchronise", "launch", "synchronise", "launch", "synchronise"]
    assert_allclose(outputs.scores[:, 0], expected(FRAMES[:1], [faces])[0], atol=1)


def test_frames_of_all_sizes_use_the_same_memory(machine):
    m = machine()
    with m.open(library=FakePreprocess(m.device)) as runner:
        for side in (30, 80, 40, 80, 30):
            frames = [picture(side, side + 7, side), picture(side + 3, side, side + 1)]
            parts = [squares((15, 15, 20)), squares((12, 14, 9))]
            assert_allclose(runner.on_frames(frames, parts)[0].scores[:, 0], expected(frames, parts)[0], atol=1)
        taken = len(m.device.blocks)
        runner.on_frames(frames, parts)
        assert len(m.device.blocks) == taken


def test_many_frames_take_turns(machine):
    m = machine()
    frames, parts = [picture(20, 24, i) for i in range(11)], [squares((10, 10, 12))] * 11
    with m.open(library=FakePreprocess(m.device)) as runner:
        before = len(m.device.blocks)
        outputs, _ = runner.on_frames(frames, parts)
        assert len(m.device.blocks) == before + 2 + 2 * 4  # rows, and as many frames as fit into a batch
        frames.reverse()
        assert_allclose(runner.on_frames(frames, parts)[0].scores, outputs.scores[::-1])
    assert_allclose(outputs.scores[:, 0], expected(frames[::-1], parts)[0], atol=1)


def test_fewer_faces_than_the_smallest_batch(machine):
    m = machine(batch=(3, 4, 4))
    library = FakePreprocess(m.device)
    with m.open(library=library) as runner:
        outputs, _ = runner.on_frames(FRAMES[:1], [PARTS[0][:1]])
    assert_allclose(outputs.scores[:, 0], expected(FRAMES[:1], [PARTS[0][:1]])[0], atol=1)
    assert library.launches == [3]


def test_no_faces_run_nothing(machine):
    m = machine()
    with m.open(library=FakePreprocess(m.device)) as runner:
        for frames, parts in (([], []), (FRAMES, [squares()] * 3)):
            outputs, matrices = runner.on_frames(frames, parts)
            assert (len(outputs), matrices.shape) == (0, (0, 2, 3))
        assert m.device.left() == {"streams": 1, "blocks": 9}


def test_without_the_library_the_cpu_makes_the_crops(machine):
    m = machine()
    means, maps = expected(FRAMES, PARTS)
    with m.open() as runner:
        outputs, matrices = runner.on_frames(FRAMES, PARTS)
        assert len(runner.on_frames([], [])[0]) == 0
        frame = DeviceFrame.of(Interface(m.device, FRAMES[0]))
        with pytest.raises(BackendError, match="need crops made there: Crops on the GPU need a library"):
            runner.on_frames([frame], PARTS[:1])
        with pytest.raises(BackendError, match="results that stay there"):
            runner.frames_on_device(FRAMES, PARTS)
    assert_allclose(outputs.scores[:, 0], means)
    assert_allclose(matrices, maps)


def test_frames_on_the_gpu_stay_there(machine):
    m = machine()
    with m.open(library=FakePreprocess(m.device)) as runner:
        with m.device.current():
            stream = m.device.new_stream()
        frames = [Interface(m.device, np.zeros_like(FRAMES[0]), stream), FRAMES[1], Exchanged(m.device, np.zeros_like(FRAMES[2]), stream)]
        for shift in range(4):
            now = [f + np.uint8(shift) for f in FRAMES]
            fill_later(m.device, frames[0].address, now[0], stream)
            fill_later(m.device, frames[2].address, now[2], stream)
            given = [DeviceFrame.of(frames[0]), now[1], DeviceFrame.of(frames[2])]
            m.device.calls.clear()
            outputs, _ = runner.on_frames(given, PARTS)
            assert_allclose(outputs.scores[:, 0], expected(now, PARTS)[0], atol=1)
        assert "copy" not in m.device.calls  # the last time, all is in graphs, and no frame went up
        with m.device.current():
            m.device.end_stream(stream)


def test_rows_may_lie_apart(machine):
    m = machine()
    wide = np.full((40, 80, 3), 200, np.uint8)
    wide[:, :60] = FRAMES[0]
    array = Interface(m.device, wide, strides=(240, 3, 1))
    array.__cuda_array_interface__["shape"] = (40, 60, 3)
    frame = DeviceFrame.of(array)
    assert (frame.width, frame.height, frame.pitch) == (60, 40, 240)
    with m.open(library=FakePreprocess(m.device)) as runner:
        outputs, _ = runner.on_frames([frame], PARTS[:1])
    assert_allclose(outputs.scores[:, 0], expected(FRAMES[:1], PARTS[:1])[0], atol=1)


@pytest.mark.parametrize("apart", [False, True])
def test_nv12_in_one_piece_and_in_two(machine, apart):
    m = machine()
    grey = np.repeat(FRAMES[2][:, :, :1], 3, 2)
    luma, chroma = grey[:, :, 0], np.full((32, 32, 2), 128, np.uint8)
    if apart:
        frame = DeviceFrame.of(Interface(m.device, luma), PixelFormat.NV12_BT709, Interface(m.device, chroma))
    else:
        frame = DeviceFrame.of(Interface(m.device, np.concatenate([luma, chroma.reshape(32, 64)])), PixelFormat.NV12_BT601)
        assert frame.chroma == frame.address + 64 * 64
    assert (frame.width, frame.height, frame.pitch, frame.chroma_pitch) == (64, 64, 64, 64)
    with m.open(library=FakePreprocess(m.device)) as runner:
        outputs, _ = runner.on_frames([frame], PARTS[2:])
    assert_allclose(outputs.scores[:, 0], expected([grey], PARTS[2:])[0], atol=1)


def test_what_is_no_frame(machine):
    m = machine()
    for array, text in (
        (np.zeros((4, 4), np.uint8), r"uint8 \[H, W, 3\] with its pixels side by side, not uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), "not float32"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
    ):
        if array.size:
            given = Interface(m.device, array)
        else:
            given = Interface(m.device, np.zeros((1, 4, 3), np.uint8))
            given.__cuda_array_interface__["shape"] = array.shape
        with pytest.raises(UsageError, match=text):
            DeviceFrame.of(given)
    odd = Interface(m.device, np.zeros((7, 6), np.uint8))
    with pytest.raises(UsageError, match="even sides"):
        DeviceFrame.of(odd, PixelFormat.NV12_BT601)
    with pytest.raises(UsageError, match="is no array on the GPU"):
        DeviceFrame.of(FRAMES[0])
    with m.open(library=FakePreprocess(m.device)) as runner:
        with pytest.raises(UsageError, match="There are 3 frames but squares for 1"):
            runner.on_frames(FRAMES, PARTS[:1])
        with pytest.raises(UsageError, match="A frame is uint8"):
            runner.on_frames([FRAMES[0][:, :, 0]], PARTS[:1])


def test_a_frame_of_another_context(machine):
    m = machine()
    array = Interface(m.device, FRAMES[0])
    m.device.foreign.add(array.address)
    with m.open(library=FakePreprocess(m.device)) as runner, pytest.raises(BackendError, match="another CUDA context"):
        runner.on_frames([DeviceFrame.of(array)], PARTS[:1])


def test_an_error_in_any_call_leaves_the_runner_usable(machine):
    m = machine()
    means, _ = expected(FRAMES, PARTS)
    failed = 0
    with m.open(library=FakePreprocess(m.device)) as runner:
        for k in range(1, 60):
            m.device.fail_at = len(m.device.calls) + 1 + k % 20
            try:
                outputs, _ = runner.on_frames(FRAMES, PARTS)
            except BackendError:
                failed += 1
                m.device.fail_at = 0
                outputs, _ = runner.on_frames(FRAMES, PARTS)
            assert_allclose(outputs.scores[:, 0], means, atol=1)
    assert failed > 10


def test_pieces():
    assert list(pieces([3, 0, 3], 4)) == [{0: slice(0, 3), 2: slice(0, 1)}, {2: slice(1, 3)}]
    assert list(pieces([9], 4)) == [{0: slice(0, 4)}, {0: slice(4, 8)}, {0: slice(8, 9)}]
    assert list(pieces([4, 1], 4)) == [{0: slice(0, 4)}, {1: slice(0, 1)}]
    assert list(pieces([0, 0], 4)) == []


@pytest.mark.parametrize("halves", [0, 1])
def test_a_frame_there_is_no_room_for_leaves_the_runner_as_it_was(machine, halves):
    m = machine()

    def taken() -> int:
        return sum(len(block.data) for block in m.device.blocks if block.alive)

    with m.open(library=FakePreprocess(m.device)) as runner:
        small, large, part = picture(40, 60), picture(80, 90), squares((20, 20, 24))
        want = runner.on_frames([small], [part])[0].scores
        before, room = taken(), m.device.room
        m.device.room = before + halves * large.nbytes  # a frame takes twice that
        for _ in range(3):
            with pytest.raises(BackendError, match="out of memory"):
                runner.on_frames([large], [part])
            assert taken() == before
        assert_allclose(runner.on_frames([small], [part])[0].scores, want)
        m.device.room = room
        runner.on_frames([large], [part])


@pytest.mark.parametrize(("named", "level"), [("/nowhere/x.so", "WARNING"), (None, "INFO")])
def test_crops_that_the_cpu_makes_are_told_once(machine, monkeypatch, caplog, named, level):
    m = machine()
    monkeypatch.setattr(tensorrt_runner, "PreprocessLibrary", preprocess_library.PreprocessLibrary)
    monkeypatch.setattr(preprocess_library, "find_native_library", nothing_but_the_named(named))
    caplog.set_level("INFO")
    with m.open() as runner:
        for _ in range(2):
            runner.on_frames([picture(40, 60)], [squares((20, 20, 24))])
    (record,) = [r for r in caplog.records if "crops are made by the CPU" in r.message]
    assert record.levelname == level


def nothing_but_the_named(named):
    def find(file: str, variable: str) -> None:
        if named:
            raise BackendError(f"{variable} names '{named}', and there is no such file; correct it, or unset it.")

    return find
