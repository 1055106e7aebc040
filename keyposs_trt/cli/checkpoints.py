"""Checkpoints where a verb takes models: exported, so that they run like any other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import BackendError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIX = ".ckpt"
PUBLISHED = (".pth", ".pt", ".safetensors")


def is_checkpoint(model: str) -> bool:
    """Whether a model's name is that of a checkpoint of ``keyposs-trt train``."""
    return Path(model).suffix.lower() == SUFFIX


def is_published(model: str) -> bool:
    """Whether a model's name is that of a weight file, as mmpose and KeyPosS publish them."""
    return Path(model).suffix.lower() in PUBLISHED


def export_weights(file: str, sigma: float | None, grid: str | None, folder: Path) -> Path:
    """An ONNX model of a published weight file, of decoder ``wls`` and with weights as they are.

    Args:
        file: a ``.pth``, ``.pt`` or ``.safetensors`` of mmpose or KeyPosS.
        sigma: of its training targets in heatmap pixels.
        grid: where its heatmap pixels lie in the crop.
        folder: to write the model to; it is made.

    Raises:
        UsageError: sigma or grid is missing.
        ModelError: the file is missing, damaged, or of another network.
        BackendError: a package for it is missing.
    """
    if sigma is None or grid is None:
        how = "--sigma and --grid (mostly --sigma 2 --grid corner)"
        raise UsageError(f"'{file}' is a published checkpoint; say how it was trained with {how}.")
    try:
        from keyposs_trt.training.published.export import export_published
    except ModuleNotFoundError as e:
        raise _missing(e) from e
    folder.mkdir()
    return export_published(Path(file), folder / "published.onnx", fp16_weights=False, sigma=sigma, grid=grid)


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
        raise _missing(e) from e
    folder.mkdir()
    return [
        export_checkpoint(Path(checkpoint), folder / f"{size or 'finest'}.onnx", fp16_weights=False, heatmap=size)
        for size in (sizes or [None])
    ]


def _missing(e: ModuleNotFoundError) -> BackendError:
    from keyposs_trt.doctor import TRAINING_PACKAGES

    return BackendError(f"A checkpoint needs the package '{e.name}'; install it with: pip install {TRAINING_PACKAGES}")
