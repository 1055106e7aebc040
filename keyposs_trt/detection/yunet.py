"""YuNet through OpenCV, with a model file the user brings (OpenCV's model zoo has ``face_detection_yunet_2023mar.onnx``)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from keyposs_trt.detection.detector import Detections, sorted_detections
from keyposs_trt.detection.landmark_box import boxes_of_five_points
from keyposs_trt.errors import BackendError, ModelError

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

_SCORE = 14  # column of the score, after the box (4) and five key points (10)
_MAX_SIDE = 640  # YuNet finds faces of 10 to 300 pixels and takes its time on large images


class YuNet:
    """Detects faces. Calls from several threads take turns, as OpenCV's detector holds the image size.

    Attributes:
        min_score: faces below it are left out.
    """

    def __init__(self, model: str | os.PathLike[str], *, min_score: float = 0.6) -> None:
        """Loads a YuNet file.

        Raises:
            ModelError: the file is missing or OpenCV cannot load it.
            BackendError: this OpenCV was built without YuNet.
        """
        import cv2

        if not hasattr(cv2, "FaceDetectorYN"):
            raise BackendError(
                f"OpenCV {cv2.__version__} has no FaceDetectorYN; install opencv-python 4.8 or newer, or use the detector 'blazeface'."
            )
        if not Path(model).is_file():
            raise ModelError(f"There is no YuNet file '{model}'; download one from OpenCV's model zoo, or use the detector 'blazeface'.")
        self.min_score = min_score
        self._lock = threading.Lock()
        try:
            self._detector = cv2.FaceDetectorYN.create(str(model), "", (320, 320), score_threshold=min_score)
        except cv2.error as e:
            raise ModelError(f"OpenCV cannot load '{model}' as a YuNet model; download it again from OpenCV's model zoo.") from e

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """The faces of an image [H, W, 3] uint8 BGR."""
        import cv2

        height, width = image.shape[:2]
        k = min(1.0, _MAX_SIDE / max(height, width))
        size = (max(1, round(width * k)), max(1, round(height * k)))
        if k < 1:
            image = cast("NDArray[np.uint8]", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        with self._lock:
            self._detector.setInputSize(size)
            _, faces = self._detector.detect(image)
        if faces is None:
            return sorted_detections([], [])
        rows = np.asarray(faces, np.float32)
        scale = np.array([width / size[0], height / size[1]])
        points = (rows[:, 4:_SCORE].reshape(-1, 5, 2) + 0.5) * scale - 0.5
        return sorted_detections(boxes_of_five_points(points), rows[:, _SCORE], self.min_score)
