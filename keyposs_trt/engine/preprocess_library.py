"""The library that makes crops on the GPU (plugins/preprocess): where it is, its rows, and the call.

One row a crop says from which frame it comes and where; the GPU reads the rows when the launch runs, so a CUDA graph that has captured
the launch makes other crops once other rows lie in their place.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.crop import region_of_square
from keyposs_trt.engine.native_library import find_native_library
from keyposs_trt.errors import BackendError
from keyposs_trt.geometry import crop_matrix, invert

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

VARIABLE = "KEYPOSS_PREPROCESS_LIBRARY"
FILE = "libkeyposs_preprocess.so"
CROP_DTYPE = np.dtype(
    [
        ("pixels", np.uint64),
        ("chroma", np.uint64),
        ("to_region", np.float32, (6,)),
        ("left", np.int32),
        ("top", np.int32),
        ("columns", np.int32),
        ("rows", np.int32),
        ("factor", np.int32),
        ("pitch", np.int32),
        ("chroma_pitch", np.int32),
        ("format", np.int32),
    ]
)
"""``KeypossCrop`` of plugins/preprocess/keyposs_preprocess.h."""

# A thread of the GPU adds up a block alone: a box that is wrong by orders of magnitude must not keep it busy for long.
_MAX_FACTOR = 64


class PixelFormat(IntEnum):
    """Of frames in the memory of the GPU; NV12 is of limited range."""

    BGR = 0
    NV12_BT601 = 1
    NV12_BT709 = 2


class CropLayout(IntEnum):
    """Of crops in the memory of the GPU; RGB."""

    UINT8 = 0
    """[N, S, S, 3], levels."""
    FLOAT32 = 1
    """[N, 3, S, S], normalised."""
    FLOAT16 = 2
    """[N, 3, S, S], normalised."""


class PreprocessLibrary:
    """The library, loaded; threads may share it.

    Args:
        path: the file; without one it is searched for (``find_library``).

    Raises:
        BackendError: there is no such library, or it does not load.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or find_library()
        try:
            library = ctypes.CDLL(str(self.path))
            self._launch, self._words = library.keyposs_preprocess, library.keyposs_preprocess_error
        except (OSError, AttributeError) as error:
            raise BackendError(f"'{self.path}' does not load as the preprocessing library ({error}); build it again here.") from error
        pointer, whole, numbers = ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_float)
        self._launch.argtypes = [pointer, whole, whole, pointer, whole, numbers, numbers, whole, pointer]
        self._launch.restype = ctypes.c_int32
        self._words.argtypes = [whole]
        self._words.restype = ctypes.c_char_p

    def launch(
        self,
        crops_address: int,
        count: int,
        size: int,
        out_address: int,
        layout: int,
        mean: Sequence[float] | None,
        scale: Sequence[float] | None,
        border: int,
        stream: int,
    ) -> None:
        """Puts one launch on a CUDA stream; allocates nothing and waits for nothing. ``count`` 0 loads the kernel and makes no crop: do
        so before a stream is captured.

        Args:
            crops_address: of the rows (``CROP_DTYPE``) in the memory of the GPU.
            count: number of crops.
            size: their side in pixels.
            out_address: of the crops in the memory of the GPU.
            layout: of the crops, see ``CropLayout``.
            mean: three levels that normalised crops are lowered by, red first; None for 0.
            scale: three factors that they are multiplied by after that; None for 1.
            border: level of what lies outside the image, 0 to 255.
            stream: handle of the stream.

        Raises:
            BackendError: the arguments make no sense, or CUDA cannot launch; with CUDA's words.
        """
        code = self._launch(crops_address, count, size, out_address, layout, _three(mean), _three(scale), border, stream)
        if code:
            words = self._words(code).decode(errors="replace")
            raise BackendError(f"The crops cannot be made on the GPU: {words} (CUDA error {code}); make them on the CPU (crop_faces).")


def find_library() -> Path:
    """The library: the file that ``KEYPOSS_PREPROCESS_LIBRARY`` names, or else that of the installed package, or the newest in the folder
    ``build`` of a checkout.

    Raises:
        BackendError: there is none.
    """
    found = find_native_library(FILE, VARIABLE)
    if found is None:
        raise BackendError(f"Crops on the GPU need the library '{FILE}', and it is not here: build it (docs/preprocess.md).")
    return found


def library_is_expected() -> bool:
    """Whether there is such a library, or ``KEYPOSS_PREPROCESS_LIBRARY`` names one: then one that does not load is a mistake."""
    try:
        return find_native_library(FILE, VARIABLE) is not None
    except BackendError:
        return True


def crop_rows(
    squares: ArrayLike,
    image_size: tuple[int, int],
    size: int,
    pixels: int,
    pitch: int,
    format: int,
    chroma: int = 0,
    chroma_pitch: int = 0,
    angles: ArrayLike | None = None,
) -> tuple[NDArray[np.void], NDArray[np.float64]]:
    """Rows that make the crops of one frame as ``crop.crop_faces`` does.

    Two kinds of squares come out less smooth than there: those of more than 90 image pixels a crop pixel, and those that share less than
    a block of pixels with the image.

    Args:
        squares: [F, 3] centre x, centre y, side in image pixels, as ``geometry.square_of_box`` gives them.
        image_size: width and height of the frame in pixels.
        size: S, side of the crops in pixels.
        pixels: address of the frame, or of the Y plane of NV12, in the memory of the GPU.
        pitch: bytes from one of its rows to the next.
        format: of the frame, see ``PixelFormat``.
        chroma: address of the UV plane of NV12.
        chroma_pitch: bytes from one of its rows to the next.
        angles: [F] rotations of the squares in radians, clockwise as seen on the screen; none without.

    Returns:
        rows: [F] of ``CROP_DTYPE``, to be copied to the GPU.
        matrices: [F, 2, 3] float64, affine maps from image pixels to crop pixels.
    """
    wanted = np.asarray(squares, np.float64).reshape(-1, 3)
    turns = [0.0] * len(wanted) if angles is None else np.asarray(angles, np.float64).reshape(len(wanted)).tolist()
    matrices = np.zeros((len(wanted), 2, 3))
    blocks = np.zeros((len(wanted), 5), np.int32)
    for i, (square, angle) in enumerate(zip(wanted, turns, strict=True)):
        matrices[i] = crop_matrix(square.tolist(), size, angle)
        left, top, right, bottom, factor = region_of_square(square, size, *image_size, angle)
        factor = max(1, min(factor, right - left, bottom - top, _MAX_FACTOR))
        blocks[i] = left, top, (right - left) // factor, (bottom - top) // factor, factor
    rows = np.zeros(len(wanted), CROP_DTYPE)
    for name, column in zip(("left", "top", "columns", "rows", "factor"), blocks.T, strict=True):
        rows[name] = column
    rows["to_region"] = _to_region(matrices, blocks).reshape(-1, 6)
    rows["pixels"], rows["pitch"], rows["format"] = pixels, pitch, format
    rows["chroma"], rows["chroma_pitch"] = chroma, chroma_pitch
    return rows, matrices


def _to_region(matrices: NDArray[np.float64], blocks: NDArray[np.int32]) -> NDArray[np.float64]:
    """[F, 2, 3] maps from crop pixels to region pixels: region pixel i is the mean of image pixels left + i * factor and on."""
    factor = blocks[:, 4:]
    to_image = invert(matrices)
    to_image[:, :, 2] -= blocks[:, :2] + (factor - 1) / 2
    return to_image / factor[..., None]


def _three(values: Sequence[float] | None) -> ctypes.Array[ctypes.c_float] | None:
    return None if values is None else (ctypes.c_float * 3)(*values)
