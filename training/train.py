"""Runs a recipe: trains in one process or several, keeps checkpoints, resumes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.files import atomic_path
from keyposs_trt.training.datasets.loaders import make_loaders
from keyposs_trt.training.module import LandmarkModule
from keyposs_trt.training.networks import network_cost
from keyposs_trt.training.processes import Processes
from keyposs_trt.training.qat.begin import begin, calibrate, resumed
from keyposs_trt.training.uncertainty import measure_on_validation

if TYPE_CHECKING:
    from keyposs_trt.training.recipe import Recipe

LAST, BEST = "last", "best"
LOG = "metrics.csv"  # as Lightning's logger calls it; that of an earlier start becomes metrics-1.csv


class _ProgressBar(TQDMProgressBar):
    """A bar that is closed when training breaks off, so that it does not write over the message that follows."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002 (a hook)
        if self._train_progress_bar is not None:  # there is none before the first batch
            self.train_progress_bar.close()


class _EarlyStop(EarlyStopping):
    """Keeps the patience of the recipe when a run goes on, and does not train one more epoch when it had run out."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 (a hook)
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _Average(WeightAveraging):
    """Exponential averages of the weights that begin as plain means: a short run is not averaged with what it began from."""

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=partial(_average, decay=decay))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:  # noqa: ARG002 (a hook)
        return step_idx is not None


def _average(average: torch.Tensor, value: torch.Tensor, count: torch.Tensor | int, decay: float) -> torch.Tensor:
    """The average after ``count`` updates: its decay rises with them, (1 + n) / (10 + n), up to ``decay``."""
    n = float(count)
    d = min(decay, (1 + n) / (10 + n))
    return d * average + (1 - d) * value


class _AtomicCheckpoints(TorchCheckpointIO):
    """A checkpoint replaces the one before when it is whole: a process that is killed while it writes loses nothing."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


def run_training(recipe: Recipe, out: Path, resume: bool = True, qat: Path | None = None) -> Path:
    """Trains a recipe and returns the path of the last checkpoint, ``out/last.ckpt``.

    A run that was cut off goes on from ``out/last.ckpt`` unless ``resume`` is false; at most one epoch is lost. ``out/best.ckpt`` is the
    one with the least validation NME. Under torchrun every process calls this, and the first one writes.

    Args:
        recipe: what to train.
        out: folder for checkpoints and logs.
        resume: go on where a run was cut off.
        qat: a checkpoint to begin with, whose network goes on learning with the rounding of INT8 (``training.qat``).

    Raises:
        UsageError: a value of the recipe makes no sense here, or ``qat`` does not fit it.
        ModelError: ``qat`` cannot be read.
        DataError: data are missing or cannot be measured on, or ``out`` holds a run of another recipe.
    """
    processes = Processes.from_environment()
    last = out / f"{LAST}.ckpt"
    resuming = resume and last.exists()
    done = _epochs_done(last, recipe, qat is not None) if resuming else 0
    t = recipe.training
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # for the rendering and loading processes; this one is set below
    torch.set_num_threads(t.threads)
    cv2.setNumThreads(1)  # its threads take time from the training's, and a data process forked after they started may hang
    pl.seed_everything(t.seed, verbose=False)
    # First, as weights that cannot be had should not cost a rendering.
    module = (
        LandmarkModule(recipe.to_dict(), pretrained=not resuming) if qat is None else _for_int8(recipe, qat, last if resuming else None)
    )
    if processes.rank == 0:
        sys.stderr.write(f"{recipe.name}: {network_cost(module.network, recipe.network.input_size)}\n")
    train, validation = make_loaders(recipe, processes)
    train.sampler.set_epoch(done)  # pyright: ignore (an EpochSampler); Lightning starts the data processes before it says which epoch it is
    if qat is not None and not resuming:
        measured = calibrate(module, train.dataset)
        if processes.rank == 0:
            sys.stderr.write(measured + "\n")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its notes on the machine say nothing of the training
    if processes.rank == 0:
        _keep_log(out)
    trainer = _trainer(recipe, out, processes, min(20, len(train)))
    module.to(memory_format=torch.channels_last)  # pyright: ignore (its overloads lack the memory format)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists|.*LeafSpec")  # the first is meant, the second Lightning's own
        trainer.fit(module, train, validation, ckpt_path=last if resuming else None, weights_only=True)
    if trainer.interrupted:  # Lightning ends quietly on Ctrl-C
        raise KeyboardInterrupt
    if processes.rank == 0:
        for name in (LAST, BEST):
            if (out / f"{name}.ckpt").exists():
                measure_on_validation(out / f"{name}.ckpt", validation.dataset)
    return last


def _for_int8(recipe: Recipe, start: Path, last: Path | None) -> LandmarkModule:
    """The module of a training for INT8, which begins with one checkpoint or goes on from another."""
    return begin(start, recipe) if last is None else resumed(last, recipe, start)


def _trainer(recipe: Recipe, out: Path, processes: Processes, log_every: int) -> pl.Trainer:
    t = recipe.training
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(dirpath=out, filename=LAST, save_top_k=1, enable_version_counter=False),
        ModelCheckpoint(dirpath=out, filename=BEST, monitor="val_nme", mode="min", save_top_k=1, enable_version_counter=False),
        LearningRateMonitor("epoch"),
        _ProgressBar(refresh_rate=10),
    ]
    if t.ema:
        callbacks.insert(0, _Average(t.ema))
    if t.patience:
        callbacks.append(_EarlyStop("val_nme", patience=t.patience, mode="min"))
    several = processes.world > 1
    accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    try:
        return pl.Trainer(
            max_epochs=t.epochs,
            accelerator=accelerator,
            devices=processes.local,
            num_nodes=processes.machines,
            # Some backbones have layers behind the last feature that is used, which get no gradient.
            strategy="ddp_find_unused_parameters_true" if several else "auto",
            sync_batchnorm=several and t.sync_batchnorm and accelerator == "gpu",  # PyTorch has it for GPUs alone
            use_distributed_sampler=False,  # the samplers know their process
            precision=t.precision,  # pyright: ignore (checked by Lightning)
            default_root_dir=out,
            logger=[CSVLogger(out, name="", version=""), TensorBoardLogger(out, name="", version="tensorboard")],
            callbacks=callbacks,
            plugins=[_AtomicCheckpoints()],
            gradient_clip_val=t.clip or None,
            log_every_n_steps=log_every,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except (ValueError, MisconfigurationException) as e:
        raise UsageError(f"Recipe '{recipe.name}' cannot be trained here: {' '.join(str(e).split())}") from e


def _keep_log(out: Path) -> None:
    """Renames the log of a run that was cut off, which Lightning would delete."""
    log = out / LOG
    if log.exists():
        number = 1 + len(list(out.glob(f"{log.stem}-*{log.suffix}")))
        log.rename(out / f"{log.stem}-{number}{log.suffix}")


def _epochs_done(checkpoint: Path, recipe: Recipe, int8: bool) -> int:
    """How many epochs a run has behind it.

    Raises:
        DataError: it is of another recipe, or for INT8 and this one not.
    """
    from keyposs_trt.training.checkpoint import load_checkpoint

    module = load_checkpoint(checkpoint)
    old = module.recipe
    # A longer run and another machine's folders and processes may go on from the same weights.
    same = replace(
        old,
        data=replace(old.data, root=recipe.data.root, cache=recipe.data.cache),
        network=replace(old.network, weights=recipe.network.weights),
        training=replace(
            old.training,
            epochs=recipe.training.epochs,
            patience=recipe.training.patience,
            precision=recipe.training.precision,
            workers=recipe.training.workers,
            threads=recipe.training.threads,
        ),
    )
    if same != recipe or int8 != (module.fake is not None):
        raise DataError(f"'{checkpoint}' belongs to another recipe; choose another folder with -o, or start over with --no-resume.")
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True).get("epoch", -1)) + 1
