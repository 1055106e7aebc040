"""The library that makes crops on a GPU, on the one of ``fake_device``: it cuts with ``crop_faces`` what its rows ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.crop import crop_faces
from keyposs_trt.engine.preprocess_library import CROP_DTYPE, PixelFormat

if TYPE_CHECKING:
    from fake_device import FakeDevice


class FakePreprocess:
    """See ``keyposs_trt.engine.frames.CropLibrary``; of NV12 it takes the brightness for all colours."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.launches: list[int] = []

    def launch(
        self, crops_address: int, count: int, size: int, out_address: int, layout: int, mean: Any, scale: Any, border: int, stream: int
    ) -> None:
        assert (layout, mean, scale, border) == (0, None, None, 0)
        self.launches.append(count)
        out = out_address, count * size * size * 3
        self.device.enqueue("crop", stream, lambda: self._crop(crops_address, count, size, *out), [(crops_address, 72 * count)], [out])

    def _crop(self, crops_address: int, count: int, size: int, out_address: int, out_bytes: int) -> None:
        out = self.device.find(out_address, out_bytes).reshape(count, size, size, 3)
        rows = self.device.get(crops_address, (count,), CROP_DTYPE)
        for crop, row in zip(out, rows, strict=True):
            region, factor = self._region(row), int(row["factor"])
            to_frame = row["to_region"].reshape(2, 3).astype(float) * factor
            to_frame[:, 2] += (factor - 1) / 2
            middle = to_frame @ ((size - 1) / 2, (size - 1) / 2, 1)
            crop[:] = crop_faces(region, [[*middle, to_frame[0, 0] * size]], size)[0][0]

    def _region(self, row: Any) -> np.ndarray:
        """The frame's pixels that a row needs, as BGR; each byte must be there."""
        left, top, factor, pitch = (int(row[name]) for name in ("left", "top", "factor", "pitch"))
        height, width = int(row["rows"]) * factor, int(row["columns"]) * factor
        depth = 3 if row["format"] == PixelFormat.BGR else 1
        first = int(row["pixels"]) + top * pitch + left * depth
        lines = [self.device.find(first + y * pitch, width * depth) for y in range(height)]
        if depth == 1:
            for y in range(top // 2, (top + height + 1) // 2):
                self.device.find(int(row["chroma"]) + y * int(row["chroma_pitch"]) + left // 2 * 2, -(-width // 2) * 2)
        return np.repeat(np.stack(lines).reshape(height, width, depth), 4 - depth if depth == 1 else 1, 2)
