"""The training and validation batches of a recipe, for one process or for each of several."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader, Dataset, Sampler

from keyposs_trt.datasets import open_dataset
from keyposs_trt.errors import DataError
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.datasets.faces import AnnotatedFaces, PlainFaces
from keyposs_trt.training.datasets.views import TrainingViews, ViewStore
from keyposs_trt.training.synthesis.generate import SynthesisOptions, portrait_jobs, render_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyposs_trt.datasets import Dataset as Annotations
    from keyposs_trt.datasets import Face
    from keyposs_trt.training.processes import Processes
    from keyposs_trt.training.recipe import Recipe

VALIDATION_BATCH = 32
_PATIENCE = 600.0  # seconds without a new file
_POLL = 1.0  # seconds between looks at what the first process is rendering


class EpochSampler(Sampler[int]):
    """Numbers ``epoch * samples + i``, so that every epoch, and a resumed one, draws samples of its own.

    Of several processes each gets its share, all equally many, so that one step of all sees the samples one process would see with
    a batch as large as theirs together. The trainer calls ``set_epoch`` before each epoch.
    """

    def __init__(self, samples: int, rank: int = 0, world: int = 1) -> None:
        self.samples, self.rank, self.world, self.epoch = samples, rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the numbers are for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.samples // self.world)

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.samples + self.rank
        return iter(range(first, first + len(self) * self.world, self.world))


class ShareSampler(Sampler[int]):
    """Every ``world``-th face from ``rank`` on: over all processes each face once, none twice to fill a batch."""

    def __init__(self, count: int, rank: int = 0, world: int = 1) -> None:
        self._share = range(rank, count, world)

    def __len__(self) -> int:
        return len(self._share)

    def __iter__(self) -> Iterator[int]:
        return iter(self._share)


def make_loaders(recipe: Recipe, processes: Processes) -> tuple[DataLoader, DataLoader]:
    """Batches for training and for validation.

    Raises:
        DataError: faces are missing, or annotations have problems and the recipe refuses them.
        UsageError: the data set does not hold the points of the recipe's scheme.
    """
    train, validation, samples = (_views if recipe.data.dataset is None else _annotated)(recipe, processes)
    t = recipe.training
    if processes.world > 1 and samples < processes.world * t.batch:
        raise DataError(
            f"{samples} samples an epoch do not fill one batch of {t.batch} in each of {processes.world} processes; "
            "start fewer processes, or make training.batch smaller."
        )
    if len(validation) < processes.world:  # pyright: ignore (both kinds have a length)
        raise DataError(f"There are fewer validation faces than processes ({processes.world}); start fewer, or validate on more faces.")
    # Data processes are forked once: one forked after OpenCV or OpenMP started threads here may wait for them for ever.
    workers = {"num_workers": t.workers, "persistent_workers": t.workers > 0, "prefetch_factor": 4 if t.workers else None}
    share = ShareSampler(len(validation), processes.rank, processes.world)  # pyright: ignore (both kinds have a length)
    return (
        DataLoader(train, t.batch, sampler=EpochSampler(samples, processes.rank, processes.world), **workers),
        DataLoader(validation, VALIDATION_BATCH, sampler=share),
    )


def _annotated(recipe: Recipe, processes: Processes) -> tuple[Dataset, Dataset, int]:
    d = recipe.data
    train = _open(recipe, str(d.dataset), d.train_split)
    held = _open(recipe, str(d.validation_dataset or d.dataset), d.validation_split)
    if processes.rank == 0:
        for what, found in (("training", train), ("validation", held)):
            sys.stderr.write(f"{what}: {len(found)} faces of {found.path} (format {found.format}){_problems(found)}\n")
    _require_norm(held)
    return AnnotatedFaces(train.faces, recipe), PlainFaces(held.faces, recipe), recipe.training.samples or len(train)


def _require_norm(found: Annotations) -> None:
    """DataError where no face has the points that its errors are divided by."""
    scheme = load_scheme(found.scheme)
    needed = [i for group in scheme.norms.get(scheme.norm_name, ()) for i in group]
    if not any(face.labelled is None or face.labelled[needed].all() for face in found.faces):
        points = ", ".join(map(str, needed))
        raise DataError(f"No validation face of '{found.path}' has the points {points} of the norm {scheme.norm_name}; annotate them.")


def _open(recipe: Recipe, path: str, split: str | None) -> Annotations:
    d = recipe.data
    return open_dataset(Path(d.root) / path, d.format, recipe.scheme, split, d.on_problem)


def _problems(found: Annotations) -> str:
    if not found.problems:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.problem_counts.items())
    return f"; left out {kinds}, first {found.problems[0]}"


def _wait_for(files: list[Path]) -> None:
    missing, since = len(files), time.monotonic()
    while left := sum(not file.exists() for file in files):
        if left < missing:
            missing, since = left, time.monotonic()
        elif time.monotonic() - since > _PATIENCE:
            raise DataError(f"No view was rendered for {_PATIENCE:.0f} seconds; put data.cache on a disk that all machines share.")
        time.sleep(_POLL)


def synthesis_options(recipe: Recipe) -> SynthesisOptions:
    """What a recipe renders."""
    d = recipe.data
    root = Path(d.root)
    return SynthesisOptions(
        folders=tuple(str(root / p) for p in d.portraits),
        mesh=str(root / d.mesh),
        views=d.views,
        size=d.view_size,
        yaw=d.yaw,
        pitch=d.pitch,
        hold_out=d.hold_out,
        seed=recipe.training.seed,
    )


def _views(recipe: Recipe, processes: Processes) -> tuple[Dataset, Dataset, int]:
    d, n, t = recipe.data, recipe.network, recipe.training
    options, cache = synthesis_options(recipe), Path(d.cache)
    if processes.rank == 0:
        files = render_dataset(options, cache, workers=max(1, t.threads))
    else:  # the first process renders; where it fails, the launcher ends all of them
        files = [job[1] for job in portrait_jobs(options, cache)]
        _wait_for(files)
    rest = [f for f in files if not f.stem.endswith(d.validation)]
    if len(rest) == len(files) or not rest:
        raise DataError("The recipe leaves no faces to train on or none to validate on; change data.validation.")
    flip = load_scheme(recipe.scheme).flip
    train = TrainingViews(ViewStore(rest), d.original_share, flip, n.input_size, recipe.target.crop_scale, t.seed, recipe.augment)
    return train, PlainFaces(_held_portraits(recipe), recipe), t.samples


def _held_portraits(recipe: Recipe) -> list[Face]:
    """The portraits kept for validation, as they are and with the teacher's own points: what a model is measured by, not the label's."""
    d = recipe.data
    found = [face for folder in d.portraits for face in open_dataset(Path(d.root) / folder, "teacher").faces]
    stems = [Path(face.image_name).stem for face in found]
    return [face for face, stem in zip(found, stems, strict=True) if stem.endswith(d.validation) and not stem.endswith(d.hold_out)]
