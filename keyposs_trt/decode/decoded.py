"""What a decoder gives, and the way from heatmap pixels to crop pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

GRIDS = ("corner", "half_pixel")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Landmarks read from heatmaps [..., L, H, W]. Every number is finite.

    Attributes:
        points: [..., L, 2] float32, x and y in pixels: heatmap pixels as a decoder gives them, crop pixels after ``to_crop``.
        scores: [..., L] float32 in [0, 1], the amplitude of each map: fitted, or its peak.
        covariance: [..., L, 3] float32, xx, xy, yy in pixels squared; None where the decoder defines none.
    """

    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    covariance: NDArray[np.float32] | None

    def to_crop(self, stride: float, grid: str) -> Decoded:
        """The same in crop pixels, see ``to_crop``."""
        covariance = None if self.covariance is None else self.covariance * np.float32(stride**2)
        return Decoded(to_crop(self.points, stride, grid), self.scores, covariance)


def to_crop(points: ArrayLike, stride: float, grid: str) -> NDArray[np.float32]:
    """Points from heatmap pixels to crop pixels.

    Args:
        points: [..., 2] heatmap pixels.
        stride: crop pixels per heatmap pixel.
        grid: ``corner`` (x_crop = x * stride) or ``half_pixel`` (x_crop = (x + 0.5) * stride - 0.5).

    Returns:
        [..., 2] float32, crop pixels.
    """
    return (np.asarray(points, np.float64) * stride + grid_shift(stride, grid)).astype(np.float32)


def grid_shift(stride: float, grid: str) -> float:
    """Where heatmap pixel 0 lies in the crop: crop pixels, the same along x and y.

    Raises:
        UsageError: the grid is not one of ``GRIDS``.
    """
    if grid not in GRIDS:
        raise UsageError(f"There is no sampling grid {grid!r}; use one of {', '.join(GRIDS)}.")
    return (stride - 1) / 2 if grid == "half_pixel" else 0.0
