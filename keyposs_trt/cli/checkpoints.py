"""Checkpoints where a verb takes models: exported, so that they run like any other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIX = ".ckpt"


def is_checkpoint(model: str) -> bool:
    """Whether a model's name is that of a checkpoint of ``keyposs-trt train``."""
    return Path(model).suffix.lower() == SUFFIX


def export_sizes(checkpoint: str, sizes: Sequence[int] | None, folder: Path) -> list[Path]:
    """One ONNX model for each heatmap size, of decoder ``wls`` and with weights as they were trained.

    Args:
        checkpoint: its file.
        sizes: of the heatmaps; None for the finest of the checkpoint.
        folder: an empty one, to write them to.

    Raises:
        UsageError: the checkpoint has no heatmaps of such a size.
        ModelError: it is missing or damaged.
        BackendError: a package for it is missing.
    """
    try:
        from keyposs_trt.training.export import export_checkpoint
    except ModuleNotFoundError as e:
        from keyposs_trt.doctor import TRAINING_PACKAGES

        raise BackendError(f"A checkpoint needs the package '{e.name}'; install it with: pip install {TRAINING_PACKAGES}") from e
    folder.mkdir()
    return [
        export_checkpoint(Path(checkpoint), folder / f"{size or 'finest'}.onnx", fp16_weights=False, heatmap=size)
        for size in (sizes or [None])
    ]
