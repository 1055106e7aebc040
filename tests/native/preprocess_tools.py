"""Frames and crops for the tests of plugins/preprocess, and what they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from keyposs_trt.engine.preprocess_library import CROP_DTYPE, CropLayout, PreprocessLibrary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GUARD = 64  # bytes beside the crops that must stay as they are


def noise(height: int, width: int, channels: int = 3, blur: float = 0.0, seed: int = 0) -> NDArray[np.uint8]:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)
    return cv2.GaussianBlur(image, (0, 0), blur) if blur else image


class Nv12(NamedTuple):
    luma: NDArray[np.uint8]  # [H, W]
    chroma: NDArray[np.uint8]  # [H / 2, W / 2, 2]

    @property
    def planar(self) -> NDArray[np.uint8]:
        """As OpenCV takes it: [H + H / 2, W, 1]."""
        return np.concatenate([self.luma, self.chroma.reshape(len(self.chroma), -1)])[..., None]


def noise_nv12(height: int, width: int, seed: int = 0) -> Nv12:
    """Of all colours, and of what is no colour."""
    rng = np.random.default_rng(seed)
    luma = cv2.GaussianBlur(rng.integers(0, 256, (height, width)).astype(np.uint8), (0, 0), 0.8)
    return Nv12(luma, rng.integers(0, 256, (height // 2, width // 2, 2)).astype(np.uint8))


def row(
    image: NDArray[np.uint8] | Nv12, to_region: NDArray[np.float64], region: Sequence[int] | None = None, format: int = 0
) -> NDArray[np.void]:
    """[1] of ``CROP_DTYPE``. ``region`` is left, top, columns, rows, factor; the whole image without."""
    plane = image.luma if isinstance(image, Nv12) else image
    rows = np.zeros(1, CROP_DTYPE)
    rows["pixels"], rows["pitch"], rows["format"] = plane.ctypes.data, plane.strides[0], format
    if isinstance(image, Nv12):
        rows["chroma"], rows["chroma_pitch"] = image.chroma.ctypes.data, image.chroma.strides[0]
    rows["to_region"] = to_region.ravel()
    values = region or (0, 0, plane.shape[1], plane.shape[0], 1)
    for name, value in zip(("left", "top", "columns", "rows", "factor"), values, strict=True):
        rows[name] = value
    return rows


def make(
    library: PreprocessLibrary,
    rows: NDArray[np.void],
    size: int,
    layout: int = CropLayout.UINT8,
    mean: Sequence[float] | None = None,
    scale: Sequence[float] | None = None,
    border: int = 0,
    shift: int = 0,
) -> NDArray[np.generic]:
    """The crops of rows whose frames lie in host memory; ``shift`` puts them so many bytes off alignment."""
    shape = (len(rows), size, size, 3) if layout == CropLayout.UINT8 else (len(rows), 3, size, size)
    dtype = np.dtype([np.uint8, np.float32, np.float16][layout])
    memory = np.full(int(np.prod(shape)) * dtype.itemsize + 2 * GUARD, 0xA5, np.uint8)
    first, last = GUARD + shift, GUARD + shift + int(np.prod(shape)) * dtype.itemsize
    library.launch(rows.ctypes.data, len(rows), size, memory[first:].ctypes.data, layout, mean, scale, border, 0)
    assert (memory[:first] == 0xA5).all(), "written before the crops"
    assert (memory[last:] == 0xA5).all(), "written beyond the crops"
    return memory[first:last].copy().view(dtype).reshape(shape)


def turned(size: int, step: float, degrees: float, u: float, v: float) -> NDArray[np.float64]:
    """[2, 3] map from crop pixels to region pixels: ``step`` region pixels a crop pixel, with the crop's centre on (u, v)."""
    c, s = step * np.cos(np.deg2rad(degrees)), step * np.sin(np.deg2rad(degrees))
    half = (size - 1) / 2
    return np.array([[c, -s, u - half * (c - s)], [s, c, v - half * (s + c)]])


def bilinear(image: NDArray[np.floating], to_region: NDArray[np.float64], size: int, border: float) -> NDArray[np.float64]:
    """[S, S, C] crop of an image [H, W, C] in float64, with a constant border; the map rounded to float32 as the rows hold it."""
    m = to_region.astype(np.float32).astype(np.float64)
    y, x = np.mgrid[:size, :size]
    u, v = m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]
    height, width = image.shape[:2]
    padded = np.pad(image.astype(np.float64), ((1, 2), (1, 2), (0, 0)), constant_values=border)
    column, row = np.floor(np.clip(u, -1, width)).astype(int), np.floor(np.clip(v, -1, height)).astype(int)
    across, down = np.clip(u - column, 0, 1)[..., None], np.clip(v - row, 0, 1)[..., None]
    taps = [[padded[row + 1 + i, column + 1 + j] for j in (0, 1)] for i in (0, 1)]
    upper, lower = (t[0] * (1 - across) + t[1] * across for t in taps)
    inside = ((u > -1) & (u < width) & (v > -1) & (v < height))[..., None]
    return np.where(inside, upper * (1 - down) + lower * down, border)
