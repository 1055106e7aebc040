"""Landmarker with a runner that takes whole frames: what it hands on, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from array_tools import Interface
from fake_device import FakeDevice
from model_zoo import tiny_model, tiny_spec
from numpy.testing import assert_allclose

from keyposs_trt import Landmarker
from keyposs_trt.crop import crop_faces
from keyposs_trt.detection import Detections
from keyposs_trt.engine.frames import DeviceFrame
from keyposs_trt.engine.runner import Outputs
from keyposs_trt.errors import UsageError


class FrameRecorder:
    """A runner whose landmarks all lie in the middle of the crop."""

    backend = "tensorrt"

    def __init__(self) -> None:
        self.spec = tiny_spec()
        self.calls: list[tuple[list, list]] = []

    def on_frames(self, frames, squares):
        self.calls.append((list(frames), list(squares)))
        size, count = self.spec.input_size, sum(map(len, squares))
        maps = [crop_faces(np.zeros((4, 4, 3), np.uint8), s, size)[1] for s in squares]
        ones = np.ones((count, self.spec.points, 3), np.float32)
        return Outputs(ones[..., :2] * (size - 1) / 2, ones[..., 0], ones), np.concatenate(maps)

    def __call__(self, crops):
        raise AssertionError("frames go as a whole")

    def close(self) -> None: ...


def test_frames_and_squares_go_to_the_runner():
    runner = FrameRecorder()
    landmarker = Landmarker(runner, lambda image: Detections(np.array([[10, 10, 30, 34]], np.float32), np.array([0.9], np.float32)))
    images = [np.zeros((60, 80, 3), np.uint8), np.zeros((50, 50), np.uint8)]
    laps = {}
    found = landmarker.batch(images, [[[20, 20, 40, 50], [5, 5, 15, 15]], None], lap=lambda name, seconds: laps.update({name: seconds}))
    [(frames, squares)] = runner.calls
    assert [f.shape for f in frames] == [(60, 80, 3), (50, 50, 3)]
    assert [s.shape for s in squares] == [(2, 3), (1, 3)]
    assert [len(faces) for faces in found] == [2, 1]
    for face, middle in zip([*found[0], *found[1]], ((30, 35), (10, 10), (20, 22)), strict=True):
        assert_allclose(face.points, np.broadcast_to(middle, face.points.shape), atol=1e-3)
    assert set(laps) == {"crop", "infer"}
    assert landmarker.batch([]) == []


def test_an_array_on_the_gpu_stays_there():
    runner = FrameRecorder()
    array = Interface(FakeDevice(), np.zeros((60, 80, 3), np.uint8))
    landmarker = Landmarker(runner)
    for image in (array, DeviceFrame.of(array)):
        [face] = landmarker(image, [[20, 20, 40, 50]])
        assert_allclose(face.points[0], (30, 35), atol=1e-3)
    for frames, _ in runner.calls:
        assert (frames[0].address, frames[0].width, frames[0].height) == (array.address, 80, 60)


def test_faces_on_the_gpu_are_not_detected():
    array = Interface(FakeDevice(), np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(UsageError, match="Faces are detected on the CPU, and the image lies on the GPU; give its boxes"):
        Landmarker(FrameRecorder(), lambda image: pytest.fail("an image of the GPU was given"))(array)


def test_onnxruntime_takes_images_of_the_cpu(tmp_path):
    array = Interface(FakeDevice(), np.zeros((60, 80, 3), np.uint8))
    said = pytest.raises(UsageError, match="onnxruntime takes images of the CPU; load a TensorRT engine")
    with Landmarker.load(tiny_model(tmp_path / "tiny.onnx"), "onnxruntime", detector=None) as landmarker, said:
        landmarker(array, [[20, 20, 40, 50]])
