"""The peak of every map, and the decoders that use little more: ``argmax``, ``shift`` and ``soft_argmax``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.decode.decoded import Decoded
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

HUGE = 1e20  # map values of this size or more, NaN and the infinities are no measurements
SHIFT = 0.25
BETA = 25.0
BETA_RANGE = (1e-3, 1e6)  # of soft_argmax: what is no measurement weighs nothing with either


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """M maps and the first of the largest measurements of each, in row-major order.

    Attributes:
        maps: [M, H, W] float32; what is no measurement (NaN, or 1e20 and more in size) is -HUGE or less.
        x, y: [M] place of the peak, 0 in a map without measurements.
        value: [M] float64, 0 in a map without measurements.
        lead: shape of what the maps were before they were M in a row.
    """

    maps: NDArray[np.float32]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    value: NDArray[np.float64]
    lead: tuple[int, ...]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[M, H, W] which values are measurements."""
        return self.maps > np.float32(-HUGE)

    def inside(self, pixels: int) -> NDArray[np.bool_]:
        """[M] whether at least so many pixels lie between the peak and every border."""
        _, height, width = self.maps.shape
        return (np.minimum(self.x, self.y) >= pixels) & (self.x < width - pixels) & (self.y < height - pixels)

    def window(self, radius: int, x: NDArray[np.int64] | None = None, y: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """[M, 2 radius + 1, 2 radius + 1] values around the peaks, or around x, y [M]; NaN beyond the border and for no measurement."""
        _, height, width = self.maps.shape
        steps = np.arange(-radius, radius + 1)
        row, column = (self.y if y is None else y)[:, None] + steps, (self.x if x is None else x)[:, None] + steps
        inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None]
        map_row = np.arange(len(self.maps))[:, None] * height + row.clip(0, height - 1)
        values = self.maps.ravel().take(map_row[:, :, None] * width + column.clip(0, width - 1)[:, None]).astype(np.float64)
        return np.where(inside & (values > np.float32(-HUGE)), values, np.nan)

    def moved(self, offset: NDArray[np.float64]) -> Decoded:
        """The landmarks at the peaks plus ``offset`` [M, 2]; at the peak itself where the offset is not finite."""
        with np.errstate(over="ignore"):
            short = offset.astype(np.float32)
        points = np.stack([self.x, self.y], -1) + np.where(np.isfinite(short).all(-1, keepdims=True), short, 0)
        scores = self.value.clip(0, 1).astype(np.float32)
        return Decoded(points.astype(np.float32).reshape(*self.lead, 2), scores.reshape(self.lead), None)


def find_peaks(heatmaps: ArrayLike) -> Peaks:
    """The peaks of heatmaps [..., H, W].

    Raises:
        UsageError: the maps have no pixels.
    """
    maps = np.asarray(heatmaps)
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise UsageError(f"Heatmaps must be [..., H, W] with at least one pixel, not of shape {list(maps.shape)}.")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is no measurement
        maps = np.ascontiguousarray(maps, np.float32)
    lead, (height, width) = maps.shape[:-2], maps.shape[-2:]
    maps = maps.reshape(-1, height * width)
    every = np.arange(len(maps))
    index = maps.argmax(-1)  # of a map with NaN the first NaN, so that the peak tells whether the maps must be cleaned
    value = maps[every, index]
    if not (np.abs(value) < HUGE).all():
        maps = np.where(np.abs(maps) < HUGE, maps, np.float32(-HUGE))
        index = maps.argmax(-1)
        value = maps[every, index]
    y, x = np.divmod(index, width)
    peak = np.where(value > np.float32(-HUGE), value, 0).astype(np.float64)
    return Peaks(maps.reshape(-1, height, width), x, y, peak, lead)


def argmax(heatmaps: ArrayLike) -> Decoded:
    """The largest value of each map [..., L, H, W], the first one of equals: whole heatmap pixels, no covariance.

    Raises:
        UsageError: the maps have no pixels.
    """
    peaks = find_peaks(heatmaps)
    return peaks.moved(np.zeros((len(peaks.x), 2)))


def shift(heatmaps: ArrayLike, *, border_quirk: bool = True) -> Decoded:
    """The argmax moved by 0.25 heatmap pixels towards the higher neighbour, along x and along y.

    The usual implementation (mmpose) moves peaks with 1 < x < W - 1 and 1 < y < H - 1 alone, neither those on the border nor those
    one pixel off the left and the upper one.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64.
        border_quirk: keeps that condition; False moves along every axis on which the peak has two neighbours.

    Returns:
        Points in heatmap pixels, scores (the peak in [0, 1]), no covariance.

    Raises:
        UsageError: the maps have no pixels.
    """
    peaks = find_peaks(heatmaps)
    around = peaks.window(1)
    offset = SHIFT * np.nan_to_num(np.sign(np.stack([around[:, 1, 2] - around[:, 1, 0], around[:, 2, 1] - around[:, 0, 1]], -1)))
    still = peaks.value <= 0
    if border_quirk:
        still |= (np.minimum(peaks.x, peaks.y) <= 1) | ~peaks.inside(1)
    return peaks.moved(np.where(still[:, None], 0, offset))


def soft_argmax(heatmaps: ArrayLike, *, beta: float = BETA) -> Decoded:
    """The expectation of the place under softmax(beta * map), over the whole map.

    The result is pulled to the middle of the map: every pixel of the background weighs e^(-beta * peak) as much as the peak. A larger
    ``beta`` lessens that and lets the noise of the few highest pixels through.

    The second moments of the softmax are no covariance of the landmark: about sigma^2 / (beta * peak) for a Gaussian whatever the noise. So
    there is none.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64.
        beta: sharpness, 0.001 to 1e6. The default suits 64x64 maps with peaks of 0.6 to 0.95; larger maps and lower peaks want more.

    Returns:
        Points in heatmap pixels, scores (the peak in [0, 1]), no covariance.

    Raises:
        UsageError: the maps have no pixels, or beta is out of range.
    """
    if not BETA_RANGE[0] <= beta <= BETA_RANGE[1]:
        raise UsageError(f"beta must be in 0.001..1e6, not {beta}.")
    peaks = find_peaks(heatmaps)
    _, height, width = peaks.maps.shape
    weight = np.exp(np.float32(beta) * (peaks.maps - peaks.value.astype(np.float32)[:, None, None]))
    columns, rows = weight.sum(1, dtype=np.float64), weight.sum(2, dtype=np.float64)
    total = np.maximum(rows.sum(1), 1e-30)  # 0 in a map without measurements, whose peak is pixel 0
    x, y = columns @ np.arange(width) / total, rows @ np.arange(height) / total
    return peaks.moved(np.stack([x - peaks.x, y - peaks.y], -1))
