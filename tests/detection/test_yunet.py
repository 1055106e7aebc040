"""YuNet through OpenCV: no file of it is at hand, so OpenCV's detector is a stand-in here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from keyposs_trt.detection import boxes_of_five_points, load_detector
from keyposs_trt.detection.yunet import YuNet
from keyposs_trt.errors import BackendError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

POINTS = np.array([[180.0, 200], [300, 205], [238, 270], [195, 330], [285, 335]], np.float32)


class FakeYN:
    """Gives two faces at fixed places of the image it was told the size of; checks that size."""

    faces: Any = np.stack([np.r_[0, 0, 9, 9, (POINTS + 200).ravel(), 0.7], np.r_[0, 0, 9, 9, POINTS.ravel(), 0.9]]).astype(np.float32)

    @classmethod
    def create(cls, model: str, config: str, size: tuple[int, int], score_threshold: float) -> FakeYN:
        fake = cls()
        fake.threshold = score_threshold
        return fake

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.size = size

    def detect(self, image: np.ndarray) -> tuple[int, Any]:
        assert image.shape[1::-1] == self.size
        return 1, self.faces


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cv2, "FaceDetectorYN", FakeYN)
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"stand-in")
    return path


def test_boxes_come_from_the_key_points(file: Path) -> None:
    found = load_detector(f"yunet:{file}", min_score=0.65)(np.zeros((600, 640, 3), np.uint8))
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    np.testing.assert_allclose(found.boxes, boxes_of_five_points(np.stack([POINTS, POINTS + 200])), rtol=1e-5)


def test_large_images_are_scaled_and_mapped_back(file: Path) -> None:
    found = YuNet(file)(np.zeros((1200, 1280, 3), np.uint8))
    np.testing.assert_allclose(found.boxes[0], boxes_of_five_points(POINTS[None] * 2 + 0.5)[0], rtol=1e-5)


def test_no_face(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeYN, "faces", None)
    assert YuNet(file)(np.zeros((1, 1, 3), np.uint8)).boxes.shape == (0, 4)


def test_opencv_without_yunet(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "FaceDetectorYN")
    with pytest.raises(BackendError, match="has no FaceDetectorYN"):
        YuNet(file)


def test_missing_file() -> None:
    with pytest.raises(ModelError, match=r"There is no YuNet file 'nowhere\.onnx'"):
        load_detector("yunet:nowhere.onnx")


def test_file_opencv_cannot_load(tmp_path: Path) -> None:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"cannot load .* as a YuNet model"):
        YuNet(path)
