"""The network of a recipe, by the name of its backbone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.training.networks import landmark_net
from keyposs_trt.training.networks.heatmap_net import HeatmapHead, HeatmapNet
from keyposs_trt.training.networks.hrnet import STEMS, HRNetV2

if TYPE_CHECKING:
    import torch

    from keyposs_trt.training.networks.landmark_net import LandmarkNet
    from keyposs_trt.training.recipe import Recipe

HRNET = "hrnetv2_w18"
CHECKPOINT = ".ckpt"  # suffix of our own runs' weights
_ONLY_IN_COARSE_STEMS = ("conv3.", "conv4.")


def build_network(recipe: Recipe, points: int, weights: bool = True) -> LandmarkNet | HeatmapNet:
    """The network of a recipe: ``hrnetv2_w18``, the one of KeyPosS and mmpose, or any timm backbone under a light decoder.

    Args:
        recipe: names backbone, weights and sizes.
        points: number of maps.
        weights: False leaves the pretrained weights out, as when loading a checkpoint.

    Raises:
        UsageError: there is no such backbone, or not for these sizes.
        DataError: the weights cannot be had or do not fit.
    """
    n = recipe.network
    ours = n.weights is not None and n.weights.endswith(CHECKPOINT)
    pretrained = n.weights if weights and not ours else None
    if n.backbone == HRNET:
        if n.coarser:
            raise UsageError(f"'{HRNET}' has maps of one size; leave out network.coarser, and train each size by itself.")
        if n.frozen_stride:
            raise UsageError(f"'{HRNET}' cannot be frozen in part; leave out network.frozen_stride.")
        network = hrnet_landmarks(n.input_size, n.heatmap_size, points, n.head)
        if pretrained is not None:
            _load_backbone(network.backbone, pretrained)
    else:
        network = landmark_net.build_network(recipe, points, pretrained)
    if weights and ours:
        _load_run(network, Path(str(n.weights)))
    return network


def _load_run(network: torch.nn.Module, path: Path) -> None:
    """The weights of another run, where names and shapes are the same: all of them, or the backbone and what else fits."""
    content = _load(path)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise DataError(f"'{path}' is no checkpoint of 'keyposs-trt train'; give its last.ckpt to network.weights.")
    own = network.state_dict()
    state = {k.removeprefix("network."): v for k, v in state.items()}
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    lacking = [k for k in own if k.startswith("backbone.") and k not in fitting]
    if lacking:
        raise DataError(
            f"'{path}' lacks {len(lacking)} weights of this backbone, first '{lacking[0]}'; start from a run with the same backbone."
        )
    network.load_state_dict(fitting, strict=False)


def hrnet_landmarks(input_size: int, heatmap_size: int, points: int, head: str = "heatmap") -> HeatmapNet:
    """HRNetV2-W18 with the head of mmpose's face models: all branches concatenated, 1x1, batch norm, ReLU, 1x1.

    Raises:
        UsageError: there is no stem for this ratio of the sizes, or the input cannot be halved often enough.
    """
    stride = input_size // heatmap_size
    if stride not in STEMS or input_size % heatmap_size:
        strides = ", ".join(map(str, STEMS))
        raise UsageError(
            f"'{HRNET}' has maps of the input size divided by {strides}, not {input_size} to {heatmap_size}; choose another size."
        )
    backbone = HRNetV2(stride)
    if input_size % backbone.multiple:
        raise UsageError(f"The input size of '{HRNET}' with maps of {heatmap_size} must be a multiple of {backbone.multiple}.")
    return HeatmapNet(backbone, HeatmapHead(backbone.channels, points, conv=[(sum(backbone.channels), 1)]), head)


def _load_backbone(backbone: torch.nn.Module, weights: str) -> None:
    """ImageNet weights: timm's ``hrnet_w18``, which has the same layers, or a file with these names."""
    state = _imagenet() if weights == "imagenet" else _file(Path(weights))
    state = {k.removeprefix("backbone."): v for k, v in state.items()}
    own = backbone.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and getattr(v, "shape", None) == own[k].shape}
    lacking = [k for k in own if k not in fitting and not k.startswith(_ONLY_IN_COARSE_STEMS) and not k.endswith("num_batches_tracked")]
    if lacking:
        raise DataError(f"'{weights}' lacks {len(lacking)} weights of '{HRNET}', first '{lacking[0]}'; give the file of that architecture.")
    backbone.load_state_dict(fitting, strict=False)


def _imagenet() -> dict[str, Any]:
    import timm

    try:
        return timm.create_model("hrnet_w18", pretrained=True).state_dict()
    except Exception as e:
        raise DataError(f"The weights of '{HRNET}' cannot be downloaded ({e}); give a file with --set network.weights=FILE.") from e


def _file(path: Path) -> dict[str, Any]:
    content = _load(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise DataError(f"'{path}' holds no state dict; give a weights file of '{HRNET}'.")
    return state


def _load(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"There is no weights file '{path}'; check --set network.weights.") from None
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as e:
        raise DataError(f"'{path}' is not a PyTorch weights file that can be loaded safely; save a plain state dict.") from e
