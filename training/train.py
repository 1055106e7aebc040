"""Runs a recipe: renders the views, trains, keeps checkpoints, resumes."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from keyposs_trt.errors import DataError
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.datasets.views import EpochSampler, PlainViews, TrainingViews, ViewStore
from keyposs_trt.training.module import LandmarkModule
from keyposs_trt.training.synthesis.generate import SynthesisOptions, render_dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyposs_trt.training.recipe import Recipe


class _ProgressBar(TQDMProgressBar):
    """A bar that is closed when training breaks off, so that it does not write over the message that follows."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002 (a hook)
        self.train_progress_bar.close()


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


def run_training(recipe: Recipe, out: Path, resume: bool = True) -> Path:
    """Trains a recipe and returns the path of the last checkpoint, ``out/last.ckpt``.

    A run that was cut off goes on from ``out/last.ckpt`` unless ``resume`` is false.

    Raises:
        DataError: data are missing, or ``out`` holds a run of another recipe.
    """
    last = out / "last.ckpt"
    resuming = resume and last.exists()
    if resuming:
        _check_same_recipe(last, recipe)
    threads = recipe.training.threads
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # for the rendering and loading processes; this one is set below
    torch.set_num_threads(threads)
    pl.seed_everything(recipe.training.seed, verbose=False)
    module = LandmarkModule(recipe.to_dict(), pretrained=not resuming)  # first, as weights that cannot be had should not cost a rendering
    files = render_dataset(synthesis_options(recipe), Path(recipe.data.cache), workers=max(1, threads))
    train, validation = _loaders(recipe, files)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its notes on the machine say nothing of the training
    trainer = pl.Trainer(
        max_epochs=recipe.training.epochs,
        accelerator="auto",
        devices=1,
        default_root_dir=out,
        logger=CSVLogger(out, name="", version=""),
        callbacks=[
            EMAWeightAveraging(decay=recipe.training.ema),
            ModelCheckpoint(dirpath=out, filename="last", save_top_k=1, enable_version_counter=False),
            LearningRateMonitor("epoch"),
            _ProgressBar(refresh_rate=10),
        ],
        gradient_clip_val=5.0,
        log_every_n_steps=20,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, train, validation, ckpt_path=last if resuming else None, weights_only=True)
    return last


def _check_same_recipe(checkpoint: Path, recipe: Recipe) -> None:
    from keyposs_trt.training.checkpoint import load_checkpoint

    old = load_checkpoint(checkpoint).recipe
    # A longer run and another machine's folders and processes may go on from the same weights.
    same = replace(old, data=recipe.data, training=replace(old.training, epochs=recipe.training.epochs,
                   workers=recipe.training.workers, threads=recipe.training.threads))  # fmt: skip
    if same != recipe:
        raise DataError(f"'{checkpoint}' belongs to another recipe; choose another folder with -o, or start over with --no-resume.")


def _loaders(recipe: Recipe, files: Sequence[Path]) -> tuple[DataLoader, DataLoader]:
    n, t, d = recipe.network, recipe.training, recipe.data
    held = [f for f in files if f.stem.endswith(d.validation)]
    rest = [f for f in files if not f.stem.endswith(d.validation)]
    if not held or not rest:
        raise DataError("The recipe leaves no faces to train on or none to validate on; change data.validation.")
    flip = load_scheme(recipe.scheme).flip
    train = TrainingViews(ViewStore(rest), d.original_share, flip, n.input_size, recipe.target.crop_scale, t.seed)
    plain = PlainViews(ViewStore(held), n.input_size, recipe.target.crop_scale)
    return (
        DataLoader(train, t.batch, sampler=EpochSampler(t.samples), num_workers=t.workers),
        DataLoader(plain, 32),
    )
