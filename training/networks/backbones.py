"""Backbones from timm, with ImageNet weights from the hub or from a file."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from keyposs_trt.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch


def load_backbone(name: str, weights: str | None, heatmap_stride: int, deepest: int = 16) -> tuple[nn.Module, list[int], list[int]]:
    """A timm feature extractor between two strides.

    Args:
        name: a timm model name with ``features_only`` support.
        weights: None (random), "imagenet" (timm's hub, online), or a file in timm's or torchvision's layout.
        heatmap_stride: the finest stride wanted, 4 for maps of a quarter of the input.
        deepest: the coarsest stride wanted.

    Returns:
        The backbone, and the channels and strides of its features, finest first.

    Raises:
        UsageError: timm knows no such model, or it has no features at these strides.
        DataError: the weights cannot be had or do not fit.
    """
    import timm

    try:
        probe = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError, TypeError) as e:
        raise UsageError(f"timm has no feature extractor '{name}' ({e}); 'timm.list_models()' lists the names.") from e
    strides: list[int] = list(probe.feature_info.reduction())  # pyright: ignore
    wanted = tuple(i for i, s in enumerate(strides) if heatmap_stride <= s <= deepest and s not in strides[:i])
    if not wanted or strides[wanted[0]] != heatmap_stride:
        raise UsageError(f"'{name}' has features at strides {strides}, none at {heatmap_stride}; choose another heatmap size.")
    try:
        model: Any = timm.create_model(name, pretrained=weights == "imagenet", features_only=True, out_indices=wanted)
    except Exception as e:
        raise DataError(f"The ImageNet weights of '{name}' cannot be downloaded ({e}); give a file with --set network.weights=FILE.") from e
    if weights not in (None, "imagenet"):
        _load_file(model, name, Path(str(weights)))
    _drop_unused_stages(model)
    chosen = [strides[i] for i in wanted]
    if any(b != 2 * a for a, b in itertools.pairwise(chosen)):
        raise UsageError(f"The features of '{name}' have strides {chosen}, which do not double each time; choose another backbone.")
    if str(getattr(model, "output_fmt", "")).endswith("NHWC"):
        model = _ChannelsFirst(model)
    return model, list(model.feature_info.channels()), list(model.feature_info.reduction())


class _ChannelsFirst(nn.Module):
    """A feature extractor that gives [N, H, W, C], as windowed transformers do, giving [N, C, H, W]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.feature_info = model.feature_info

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [feature.permute(0, 3, 1, 2) for feature in self.model(image)]


def _load_file(model: Any, name: str, path: Path) -> None:
    """Loads a state dict by name or, where the names differ (torchvision's layout), by order of equal shapes."""
    import timm
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"There is no weights file '{path}'; check --set network.weights.") from None
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as e:
        raise DataError(f"'{path}' is not a PyTorch weights file that can be loaded safely; save a plain state dict.") from e
    own = timm.create_model(name, pretrained=False).state_dict()
    if set(own) != set(state):
        if [v.shape for v in own.values()] != [getattr(v, "shape", None) for v in state.values()]:
            raise DataError(f"The weights in '{path}' do not fit '{name}'; give the file of that architecture.")
        state = dict(zip(own, state.values(), strict=True))
    missing = model.load_state_dict({k: v for k, v in state.items() if k in model.state_dict()}, strict=False).missing_keys
    if missing:
        raise DataError(f"'{path}' lacks {len(missing)} weights of '{name}', first '{missing[0]}'; give the file of that architecture.")


def _drop_unused_stages(model: Any) -> None:
    """EfficientNet-type extractors of timm run every stage; those behind the last feature only cost time."""
    if hasattr(model, "blocks") and hasattr(model, "_stage_out_idx"):
        model.blocks = model.blocks[: max(model._stage_out_idx)]


def modules_down_to(backbone: nn.Module, name: str, stride: int) -> list[nn.Module]:
    """The modules of a timm feature extractor that an image goes through to its feature of that stride.

    Raises:
        UsageError: the extractor has no such feature, or its layers do not stand one behind the other.
    """
    info: list[dict[str, Any]] = list(backbone.feature_info.info)  # pyright: ignore
    last = next((str(i["module"]) for i in info if i["reduction"] == stride), None)
    found: list[nn.Module] = []
    for child_name, child in backbone.named_children():
        if last is not None and last.startswith(child_name + "."):
            for part_name, part in child.named_children():
                found.append(part)
                if f"{child_name}.{part_name}" == last:
                    return found
        found.append(child)
        if last in (child_name, child_name.replace("_", ".")):
            return found
    raise UsageError(
        f"'{name}' cannot be frozen down to stride {stride}; set network.frozen_stride to 0, or to the stride of an early feature."
    )
