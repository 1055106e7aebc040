"""The result type: the landmarks of one face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """The landmarks of one face, in pixels of the image they were found in.

    Attributes:
        points: [L, 2] float32, x and y in image pixels; pixel centres lie at whole numbers.
        scores: [L] float32 in [0, 1], the fitted amplitude of each landmark's map.
        covariance: [L, 3] float32, xx, xy, yy in image pixels squared.
        box: [4] float32, x1 y1 x2 y2 of the face box the crop was made from, image pixels.
        score: confidence of the face: the detector's, or the mean of ``scores`` where no detector ran.
        scheme: name of the landmark scheme, see ``keyposs_trt.schemes``.
        track: in a video, the number of the face: the same as long as it is followed; None where nothing is followed.
    """

    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    covariance: NDArray[np.float32]
    box: NDArray[np.float32]
    score: float
    scheme: str
    track: int | None = None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def sigma(self) -> NDArray[np.float32]:
        """[L] float32, standard deviation of each point in pixels: sqrt of the mean of both variances."""
        return np.sqrt(np.maximum((self.covariance[:, 0] + self.covariance[:, 2]) / 2, 0))
