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

    from keyposs_trt.datasets import Dataset, Face, ImageInFile

ON_PROBLEM = ("refuse", "skip")
_FLAT = 1.0  # grey levels of standard deviation: below, a crop shows nothing


@dataclass(frozen=True, eq=False)
class Sample:
    """One face to calibrate on.

    Attributes:
        name: path relative to the folder, or file and line of the annotation.
        image: the image file, or the picture inside an annotation file.
        box: [4] float32 x1 y1 x2 y2, image pixels.
    """

    name: str
    image: Path | ImageInFile
    box: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Faces and how they are cropped. The images stay on the disk, so that memory does not grow with the set.

    Attributes:
        samples: N faces in the order in which they are used.
        size: S, side of the crops in pixels.
        crop_scale: side of the crop over the longer side of the box.
        digest: SHA-256 over names, image contents and boxes, to be kept with what was calibrated.
        passed_over: what was not used and why, in sentences.
    """

    samples: tuple[Sample, ...]
    size: int
    crop_scale: float
    digest: str
    passed_over: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def names(self) -> tuple[str, ...]:
        """N names."""
        return tuple(sample.name for sample in self.samples)

    @property
    def crops(self) -> NDArray[np.uint8]:
        """[N, S, S, 3] uint8 RGB, all at once."""
        return np.stack([self.crop(i) for i in range(len(self))])

    def crop(self, number: int) -> NDArray[np.uint8]:
        """[S, S, 3] uint8 RGB, as the runtime feeds it to the network.

        Raises:
            DataError: the image has gone.
        """
        sample = self.samples[number]
        return _cropped(_read(sample.image, sample.name), sample.box, self.size, self.crop_scale)

    def batches(self, size: int = 32, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Batches [n, S, S, 3] uint8 in order from sample ``start`` on, n = ``size`` but for the last."""
        for first in range(start, len(self), size):
            yield np.stack([self.crop(i) for i in range(first, min(first + size, len(self)))])


def collect(
    folder: str | os.PathLike[str],
    count: int,
    find_boxes: Callable[[NDArray[np.uint8]], ArrayLike],
    *,
    size: int,
    crop_scale: float = 1.25,
    seed: int = 0,
    on_problem: str = "refuse",
    progress: Callable[[int], object] | None = None,
) -> CalibrationSet:
    """Chooses ``count`` images of a folder and its subfolders, and the best face of each.

    The choice depends on the seed and on the images' paths in the folder alone: images are taken by the order of a hash of
    both, so a larger set contains the smaller one. An image without a face is passed over.

    Args:
        folder: where the images are.
        count: N, the number of crops.
        find_boxes: image [H, W, 3] uint8 BGR -> face boxes [F, 4] x1 y1 x2 y2, best first.
        size: S, side of the crops in pixels; with ``crop_scale`` as in the model's metadata.
        crop_scale: side of the crop over the longer side of the box.
        seed: another seed gives another choice.
        on_problem: ``refuse`` an image that cannot be read or shows one colour only, or ``skip`` it.
        progress: called with the number of crops found after each.

    Raises:
        UsageError: ``count`` is not positive, or there is no such way to treat problems.
        DataError: there is no such folder, it holds too few images with faces, or an image is refused.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"There is no folder '{root}' to calibrate on; give a folder of face images.")
    names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    choice = _Choice(count, size, crop_scale, on_problem, progress)
    for name in sorted(names, key=lambda n: _order(seed, n)):
        if choice.full:
            break
        image = choice.read(root / name, name)
        if image is not None:
            boxes = np.asarray(find_boxes(image), np.float32).reshape(-1, 4)
            choice.offer(Sample(name, root / name, boxes[0]), image) if len(boxes) else choice.pass_over(f"{name}: no face was found")
    return choice.made(f"Folder '{root}'", f"{len(names)} images")


def collect_faces(
    dataset: Dataset,
    count: int,
    *,
    size: int,
    crop_scale: float = 1.25,
    boxes: str = "landmarks",
    seed: int = 0,
    on_problem: str = "refuse",
    progress: Callable[[int], object] | None = None,
) -> CalibrationSet:
    """Chooses ``count`` faces of an annotated data set.

    Args:
        dataset: see ``keyposs_trt.datasets.open_dataset``.
        boxes: crop by the box around the ``landmarks`` or by the ``annotated`` one.
        count, size, crop_scale, seed, on_problem, progress: as of ``collect``; the choice depends on the seed and on where the annotations
            stand.

    Raises:
        UsageError: an argument makes no sense.
        DataError: the data set has too few faces, a face has no annotated box, or an image is refused.
    """
    if boxes not in ("landmarks", "annotated"):
        raise UsageError(f"'{boxes}' is no kind of box; choose one of landmarks, annotated.")
    choice = _Choice(count, size, crop_scale, on_problem, progress)
    for name, face in sorted(((_relative(face, dataset), face) for face in dataset.faces), key=lambda item: _order(seed, item[0])):
        if choice.full:
            break
        box = face.landmark_box if boxes == "landmarks" else face.box
        if box is None:
            raise DataError(f"{face.where} has no annotated box; crop by the box around the landmarks.")
        image = choice.read(face.image, name)
        if image is not None:
            choice.offer(Sample(name, face.image, box), image)
    return choice.made(f"The data set '{dataset.path}'", f"{len(dataset)} faces")


class _Choice:
    """A calibration set in the making."""

    def __init__(self, count: int, size: int, crop_scale: float, on_problem: str, progress: Callable[[int], object] | None) -> None:
        if count < 1:
            raise UsageError(f"A calibration set needs at least one image, not {count}; some hundred are usual.")
        if on_problem not in ON_PROBLEM:
            raise UsageError(f"'{on_problem}' is no way to treat problems; choose one of {', '.join(ON_PROBLEM)}.")
        self.count, self.size, self.crop_scale = count, size, crop_scale
        self._skip = on_problem == "skip"
        self._progress = progress
        self._samples: list[Sample] = []
        self._passed_over: list[str] = []
        self._digest = hashlib.sha256()

    @property
    def full(self) -> bool:
        return len(self._samples) == self.count

    def read(self, image: Path | ImageInFile, name: str) -> NDArray[np.uint8] | None:
        """The image; None where it cannot be read and is skipped."""
        try:
            return _read(image, name)
        except DataError as e:
            if not self._skip:
                raise DataError(f"{e} It is needed for calibration: mend it, take it out of the folder, or skip what has problems.") from e
            self.pass_over(str(e))
            return None

    def offer(self, sample: Sample, image: NDArray[np.uint8]) -> None:
        """Takes a face in, unless its crop shows nothing."""
        crop = _cropped(image, sample.box, self.size, self.crop_scale)
        edge = round(self.size * (1 - 1 / self.crop_scale) / 2)  # around the box, where a crop may reach over the image's border
        if crop[edge : self.size - edge, edge : self.size - edge].std() < _FLAT:
            what = f"{sample.name}: the face crop is of one colour"
            if not self._skip:
                raise DataError(f"{what}, and ranges measured on it would be wrong; take the image out, or skip what has problems.")
            self.pass_over(what)
            return
        self._samples.append(sample)
        content = sample.image.read_bytes() if isinstance(sample.image, Path) else image.tobytes()
        for part in (sample.name.encode() + b"\0", hashlib.sha256(content).digest(), sample.box.astype("<f4").tobytes()):
            self._digest.update(part)
        if self._progress is not None:
            self._progress(len(self._samples))

    def pass_over(self, sentence: str) -> None:
        self._passed_over.append(sentence)

    def made(self, source: str, among: str) -> CalibrationSet:
        found = len(self._samples)
        if found < self.count:
            raise DataError(f"{source} has {found} images with a face among {among}, {self.count} are needed; add images or ask for fewer.")
        return CalibrationSet(tuple(self._samples), self.size, self.crop_scale, self._digest.hexdigest(), tuple(self._passed_over))


def _order(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _relative(face: Face, dataset: Dataset) -> str:
    """Where a face is annotated, without the folder the data set lies in, which differs between machines."""
    root = dataset.path if dataset.path.is_dir() else dataset.path.parent
    return face.where.removeprefix(str(root)).lstrip("/")


def _read(image: Path | ImageInFile, name: str) -> NDArray[np.uint8]:
    try:
        return read_image(image) if isinstance(image, Path) else image.read()
    except InputError as e:
        raise DataError(str(e) if str(image) in str(e) else f"{name}: {e}") from e


def _cropped(image: NDArray[np.uint8], box: NDArray[np.float32], size: int, crop_scale: float) -> NDArray[np.uint8]:
    return crop_faces(image, square_of_box(box[None], crop_scale), size)[0][0]
