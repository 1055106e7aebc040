"""The predicted covariance, brought to the size of the errors on validation faces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from keyposs_trt.decode.torch_wls import wls
from keyposs_trt.errors import DataError
from keyposs_trt.files import atomic_path
from keyposs_trt.training.checkpoint import COVARIANCE_SCALES, load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.training.module import Batch, LandmarkModule

SHARE = 0.68
_BATCH = 32


def radius_squared(share: float = SHARE) -> float:
    """Mahalanobis distance squared of the ellipse that holds this share of a bivariate Gaussian: -2 ln(1 - share)."""
    return -2 * math.log1p(-share)


def mahalanobis_squared(errors: ArrayLike, covariance: ArrayLike) -> NDArray[np.float64]:
    """[...] e^T C^-1 e of errors [..., 2] and covariances [..., 3] (xx, xy, yy) in the same unit squared."""
    x, y = np.moveaxis(np.asarray(errors, np.float64), -1, 0)
    xx, xy, yy = np.moveaxis(np.asarray(covariance, np.float64), -1, 0)
    det = np.maximum(xx * yy - xy * xy, np.finfo(np.float64).tiny)
    return (yy * x * x - 2 * xy * x * y + xx * y * y) / det


def covariance_scale(errors: ArrayLike, covariance: ArrayLike, share: float = SHARE) -> float:
    """What the covariances [..., 3] must be multiplied by for their ``share`` ellipses to hold that share of the errors [..., 2].

    Raises:
        DataError: there is no error to measure by.
    """
    squares = mahalanobis_squared(errors, covariance)
    squares = squares[np.isfinite(squares)]
    if not len(squares):
        raise DataError("The covariance cannot be calibrated without labelled points on the validation faces; change data.validation.")
    return max(float(np.quantile(squares, share)) / radius_squared(share), 1e-6)


def calibrate_covariance(checkpoint: Path, faces: Any) -> dict[int, float]:
    """Measures the scale of the covariance on validation faces and writes it into a checkpoint, from which exports take it.

    Args:
        checkpoint: of ``run_training``; it is replaced when the new one is whole.
        faces: a data set of crops, points and labelled, as the training validates on.

    Returns:
        Size of the maps -> scale.
    """
    module = load_checkpoint(checkpoint)
    scales = {size: covariance_scale(*found) for size, found in errors_of(module, DataLoader(faces, _BATCH)).items()}
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    content[COVARIANCE_SCALES] = {str(size): scale for size, scale in scales.items()}
    with atomic_path(checkpoint) as temporary:
        torch.save(content, temporary)
    return scales


def errors_of(module: LandmarkModule, batches: Iterable[Batch]) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Size of the maps -> errors [n, 2] and the decoder's covariances [n, 3] of all labelled points, in heatmap pixels."""
    found: dict[int, list[NDArray[np.float64]]] = {}
    with torch.inference_mode():
        for images, points, labelled in batches:
            for size, logits in module.all_logits(images).items():
                decoded = wls(module.network.heatmaps(logits.float()), sigma=module.recipe.target.sigma_of(size))
                errors = decoded.points - module.to_map(points, size)
                row = torch.cat([errors, decoded.covariance], -1)[labelled]
                found.setdefault(size, []).append(row.double().numpy())
    return {size: (np.concatenate(rows)[:, :2], np.concatenate(rows)[:, 2:]) for size, rows in found.items()}
