"""Calibration sets: the face crops that INT8 ranges are measured on, chosen so that the same choice can be made again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.crop import crop_faces
from keyposs_trt.errors import DataError, InputError, UsageError
from keyposs_trt.geometry import square_of_box
from keyposs_trt.images import IMAGE_SUFFIXES, read_image

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Face crops and where they come from.

    Attributes:
        crops: [N, S, S, 3] uint8 RGB, as the runtime feeds them to the network.
        names: N paths relative to the folder, in the order of ``crops``.
        digest: SHA-256 over names and file contents, to be kept with what was calibrated.
    """

    crops: NDArray[np.uint8]
    names: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.crops)

    def batches(self, size: int = 32) -> Iterator[NDArray[np.uint8]]:
        """Batches [n, S, S, 3] uint8 in order, n = ``size`` but for the last."""
        for start in range(0, len(self), size):
            yield self.crops[start : start + size]


def collect(
    folder: str | os.PathLike[str],
    count: int,
    find_boxes: Callable[[NDArray[np.uint8]], ArrayLike],
    *,
    size: int,
    crop_scale: float = 1.25,
    seed: int = 0,
) -> CalibrationSet:
    """Chooses ``count`` images of a folder and its subfolders and crops the best face of each.

    The choice depends on the seed and on the images' paths in the folder alone: images are taken by the order of a hash of
    both, so a larger set contains the smaller one. An image without a face is passed over.

    Args:
        folder: where the images are.
        count: N, the number of crops.
        find_boxes: image [H, W, 3] uint8 BGR -> face boxes [F, 4] x1 y1 x2 y2, best first.
        size: S, side of the crops in pixels; with ``crop_scale`` as in the model's metadata.
        crop_scale: side of the crop over the longer side of the box.
        seed: another seed gives another choice.

    Raises:
        UsageError: ``count`` is not positive.
        DataError: there is no such folder, it holds too few images with faces, or an image cannot be read.
    """
    root = Path(folder)
    if count < 1:
        raise UsageError(f"A calibration set needs at least one image, not {count}; some hundred are usual.")
    if not root.is_dir():
        raise DataError(f"There is no folder '{root}' to calibrate on; give a folder of face images.")
    names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    crops, chosen, digest = [], [], hashlib.sha256()
    for name in sorted(names, key=lambda n: hashlib.sha256(f"{seed}/{n}".encode()).digest()):
        if len(chosen) == count:
            break
        image = _read(root / name)
        boxes = np.asarray(find_boxes(image), np.float32).reshape(-1, 4)
        if len(boxes):
            crops.append(crop_faces(image, square_of_box(boxes[:1], crop_scale), size)[0])
            chosen.append(name)
            digest.update(name.encode() + b"\0" + hashlib.sha256((root / name).read_bytes()).digest())
    if len(chosen) < count:
        raise DataError(
            f"Folder '{root}' has {len(chosen)} images with a face among {len(names)}, {count} are needed; add images or ask for fewer."
        )
    return CalibrationSet(np.concatenate(crops), tuple(chosen), digest.hexdigest())


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_image(path)
    except InputError as e:
        raise DataError(f"{e} It is needed for calibration: mend it or take it out of the folder.") from e
