"""What a face detector is: a callable from an image to boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLAZEFACE, TILES, YUNET = "blazeface", "blazeface:tiles", "yunet"
NAMES = (BLAZEFACE, TILES, f"{YUNET}:FILE.onnx")


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The faces of one image, best first.

    Attributes:
        boxes: [F, 4] float32, x1 y1 x2 y2 in image pixels: the tight box around the face's landmarks, from the brows to the
            chin. Boxes may reach over the image's border.
        scores: [F] float32, confidence in [0, 1], falling.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)


class Detector(Protocol):
    """Finds faces. Any callable of this form will do, a plain function too."""

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """The faces of an image [H, W, 3] uint8 BGR."""
        ...


def load_detector(
    name_or_path: str | Path | Detector = BLAZEFACE, *, min_score: float | None = None, threads: int | None = None
) -> Detector:
    """A detector by name.

    Args:
        name_or_path: ``blazeface``, the shipped one; ``blazeface:tiles``, the same but always looking at parts of the image too, for
            faces down to 2 % of its longer side; ``yunet:FILE.onnx`` with a YuNet file of your own; or
            any object that keeps the ``Detector`` protocol, which is returned as it is.
        min_score: faces below it are left out, in [0, 1]; None for the detector's own default.
        threads: CPU threads of BlazeFace; None for all cores. YuNet uses OpenCV's own threads.

    Raises:
        UsageError: an unknown name or a score outside [0, 1].
        ModelError: the detector's file is missing or corrupt.
        BackendError: this OpenCV has no YuNet.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"The lowest score of a face must be in 0..1, not {min_score}.")
    if not isinstance(name_or_path, (str, Path)):
        if not callable(name_or_path):
            raise UsageError(f"A detector must be a name or a callable from an image to Detections, not {type(name_or_path).__name__}.")
        return name_or_path
    settings: dict[str, Any] = {} if min_score is None else {"min_score": min_score}
    name, _, argument = str(name_or_path).partition(":")
    if name_or_path in (BLAZEFACE, TILES):
        from keyposs_trt.detection.blazeface import BlazeFace

        return BlazeFace(tiles=True if name_or_path == TILES else None, threads=threads, **settings)
    if name == YUNET:
        from keyposs_trt.detection.yunet import YuNet

        if not argument:
            raise UsageError("YuNet needs its model file, which is not shipped; write 'yunet:FILE.onnx'.")
        return YuNet(argument, **settings)
    raise UsageError(f"There is no face detector '{name_or_path}'; choose one of {', '.join(NAMES)}.")


def sorted_detections(boxes: Any, scores: Any, min_score: float = 0.0) -> Detections:
    """``Detections`` of boxes [F, 4] and scores [F]: best first, those below ``min_score`` or smaller than a pixel left out."""
    b = np.asarray(boxes, np.float32).reshape(-1, 4)
    s = np.asarray(scores, np.float32).reshape(-1)
    good = (s >= min_score) & np.isfinite(b).all(1) & (b[:, 2:] >= b[:, :2] + 1).all(1)
    order = np.flatnonzero(good)[np.argsort(-s[good], kind="stable")]
    return Detections(b[order], cast("NDArray[np.float32]", s[order]))
