"""What a model says of itself, measured on validation faces: how large its errors are, and which score means no face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from keyposs_trt.decode.torch_wls import wls
from keyposs_trt.errors import DataError
from keyposs_trt.files import atomic_path
from keyposs_trt.training.checkpoint import COVARIANCE_SCALES, LOST_SCORES, load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.training.module import Batch, LandmarkModule

SHARE = 0.68
LOST_SHARE = 0.75  # of the median score of faces
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


def lost_score(scores: ArrayLike) -> float:
    """The score below which a crop shows no face, of the mean landmark scores [n] of faces.

    Of the shipped models with maps of 64, 32 and 16 pixels, crops without a face reach 0.41, 0.55 and 0.68 of the median of faces, and
    faces 0.89, 0.96 and 0.98 of it at the least (131 and 66 crops of the validation pictures). Maps of 8 and 4 pixels have a peak wherever
    they look, and their scores do not tell.
    """
    return float(np.clip(LOST_SHARE * np.median(np.asarray(scores, np.float64)), 0, 1))


def measure_on_validation(checkpoint: Path, faces: Any) -> None:
    """Measures on validation faces what a model says of itself, and writes it into a checkpoint, from which exports take it.

    The scale of the covariance, where it was trained with the likelihood, and the score of a lost face, of each size of the maps.

    Args:
        checkpoint: of ``run_training``; it is replaced when the new one is whole.
        faces: a data set of crops, points and labelled, as the training validates on.
    """
    module = load_checkpoint(checkpoint)
    found = decoded_on(module, DataLoader(faces, _BATCH))
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    content[LOST_SCORES] = {str(size): lost_score(each.scores) for size, each in found.items()}
    if module.recipe.training.likelihood_weight:
        content[COVARIANCE_SCALES] = {str(size): covariance_scale(each.errors, each.covariance) for size, each in found.items()}
    with atomic_path(checkpoint) as temporary:
        torch.save(content, temporary)


@dataclass(frozen=True)
class OnFaces:
    """Errors [n, 2] and covariances [n, 3] of all labelled points in heatmap pixels, and the mean scores [m] of the faces."""

    errors: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scores: NDArray[np.float64]


def decoded_on(module: LandmarkModule, batches: Iterable[Batch]) -> dict[int, OnFaces]:
    """Size of the maps -> what the decoder of the model's files gives on these faces."""
    rows: dict[int, list[NDArray[np.float64]]] = {}
    scores: dict[int, list[NDArray[np.float64]]] = {}
    with torch.inference_mode():
        for images, points, labelled in batches:
            for size, logits in module.all_logits(images).items():
                decoded = wls(module.network.heatmaps(logits.float()), sigma=module.recipe.target.sigma_of(size))
                errors = decoded.points - module.to_map(points, size)
                rows.setdefault(size, []).append(torch.cat([errors, decoded.covariance], -1)[labelled].double().numpy())
                scores.setdefault(size, []).append(decoded.scores.mean(-1).double().numpy())
    joined = {size: np.concatenate(parts) for size, parts in rows.items()}
    return {size: OnFaces(each[:, :2], each[:, 2:], np.concatenate(scores[size])) for size, each in joined.items()}
