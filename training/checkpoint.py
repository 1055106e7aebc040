"""Checkpoints read without executing pickled code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.training.module import LandmarkModule

# Keys of a checkpoint: size of the maps -> what was measured on validation faces.
COVARIANCE_SCALES, LOST_SCORES = "covariance_scales", "lost_scores"


def load_checkpoint(path: str | Path) -> LandmarkModule:
    """The trained module of a checkpoint, in evaluation mode, with its averaged weights.

    Raises:
        ModelError: the file is missing, damaged, not a checkpoint of this toolkit, or its weights do not fit its recipe.
    """
    path = Path(path)
    try:
        data: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        hyper, state = data["hyper_parameters"], data["state_dict"]
        recipe, qat = hyper["recipe"], hyper.get("qat")
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint '{path}'; check the path.") from None
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError) as e:
        raise ModelError(f"'{path}' is damaged or not a checkpoint of 'keyposs-trt train'; give its last.ckpt.") from e
    try:
        module = LandmarkModule(recipe, pretrained=False, qat=qat)
        module.load_state_dict(state)
        module.measured_scales = {int(k): float(v) for k, v in data.get(COVARIANCE_SCALES, {}).items()}
        module.lost_scores = {int(k): float(v) for k, v in data.get(LOST_SCORES, {}).items()}
    except (ValueError, UsageError, TypeError, AttributeError, RuntimeError, KeyError) as e:
        raise ModelError(f"The weights in '{path}' do not fit its recipe; it was written by another version of keyposs-trt.") from e
    return module.eval()
