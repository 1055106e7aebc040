"""Which network a state dict of mmpose or KeyPosS belongs to, and its weights under our names.

mmpose 0.x and KeyPosS call the head ``keypoint_head`` and keep its inner convolutions in ``final_layer.N``; mmpose 1.x calls it
``head`` and keeps them in ``conv_layers.N``. The modules of ``keyposs_trt.training.networks`` have the names of 1.x.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import timm
import torch
from torch import nn

from keyposs_trt.errors import ModelError
from keyposs_trt.training.networks.heatmap_net import HeatmapHead, HeatmapNet
from keyposs_trt.training.networks.hrnet import STEMS, HRNetV2
from keyposs_trt.training.networks.mobilenet_v2 import MobileNetV2
from keyposs_trt.training.published.reading import read_weights

if TYPE_CHECKING:
    from pathlib import Path

Weights = dict[str, torch.Tensor]

_FOREIGN = "export it to ONNX with the program that trained it and give 'keyposs-trt export' that file"
_FEW = 3  # names in a message
_LAST_LAYER = re.compile(r"head\.final_layer\.(\d+)\.(\w+)")
# KeyPosS builds every stage and both further convolutions of the stem whatever the heatmap, and a tail it never calls.
_UNUSED = re.compile(r"backbone\.(conv[34]|transition[23]|stage[34])\.|head\.downscale_layer\.")
_RESNETS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
_DECONV_KERNELS = (2, 3, 4)


@dataclass(frozen=True)
class PublishedModel:
    """A published model as a network of ours, in evaluation mode.

    Attributes:
        network: images [N, 3, I, I], normalised by ImageNet's mean and deviation, RGB, to maps [N, L, I / stride, I / stride].
        kind: what was recognised, such as "HRNetV2-W18 of KeyPosS".
        points: L.
        stride: input pixels per heatmap pixel.
        multiple: I must be a multiple of it.
    """

    network: HeatmapNet
    kind: str
    points: int
    stride: int
    multiple: int


class _ResNet(nn.Module):
    """The last feature of timm's ResNet, whose layers have the names of torchvision and mmpose."""

    multiple = 32

    def __init__(self, depth: int) -> None:
        super().__init__()
        body = timm.create_model(f"resnet{depth}", pretrained=False, features_only=True, out_indices=(4,))
        self.channels: list[int] = list(body.feature_info.channels())  # pyright: ignore
        for name, layer in body.named_children():
            self.add_module(name, layer)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = image
        for layer in self.children():
            x = layer(x)
        return [x]


def load_published(path: str | Path) -> PublishedModel:
    """A checkpoint of mmpose or KeyPosS as a network: HRNetV2, ResNet or MobileNetV2 with a heatmap head.

    Raises:
        ModelError: the file cannot be read safely, is of another network, or its weights are not those of the one recognised.
        BackendError: a package is missing.
    """
    state = our_names(read_weights(path))
    backbone, kind = _backbone(state, path)
    head = _head(state, backbone.channels, kind, path)
    network = HeatmapNet(backbone, head)
    if "KeyPosS" in kind:
        own = network.state_dict()
        state = {k: v for k, v in state.items() if k in own or not _UNUSED.match(k)}
    _fill(network, state, kind, path)
    finest = backbone.multiple >> (len(backbone.channels) - 1)
    stride = finest >> (len(head.deconv_layers) // 3)
    return PublishedModel(network.eval(), kind, head.final_layer.out_channels, stride, backbone.multiple)


def our_names(state: Weights) -> Weights:
    """A state dict without prefixes of wrappers, with the head named as in mmpose 1.x, in float32.

    mmcv and mmengine store a model that was averaged during training with the averages in place; the copies beside them, called ``ema_*``,
    are those of before and left out, unless nothing else is there.
    """
    plain = {_unwrapped(k): v for k, v in state.items()}
    named = {k: v for k, v in plain.items() if not k.startswith("ema_")} or {k.removeprefix("ema_"): v for k, v in plain.items()}
    named = {re.sub(r"^keypoint_head\.", "head.", k): v for k, v in named.items() if not k.startswith("data_preprocessor.")}
    last = max((int(m[1]) for m in map(_LAST_LAYER.fullmatch, named) if m), default=None)

    def renamed(key: str) -> str:
        found = _LAST_LAYER.fullmatch(key)
        if not found:
            return key
        return f"head.final_layer.{found[2]}" if int(found[1]) == last else f"head.conv_layers.{found[1]}.{found[2]}"

    return {renamed(k): v.float() if v.is_floating_point() else v for k, v in named.items()}


def _unwrapped(key: str) -> str:
    while key.startswith("module."):
        key = key.removeprefix("module.")
    return key


def _backbone(state: Weights, path: str | Path) -> tuple[HRNetV2 | MobileNetV2 | _ResNet, str]:
    """The backbone that the names stand for, and what to call it."""
    if "backbone.stage2.0.branches.0.0.conv1.weight" in state:
        return _hrnet(state, path)
    if "backbone.layer1.0.conv.0.conv.weight" in state:
        return MobileNetV2(), "MobileNetV2 of mmpose"
    if "backbone.conv1.weight" in state and "backbone.layer4.0.conv1.weight" in state:
        blocks = tuple(len({k.split(".")[2] for k in state if k.startswith(f"backbone.layer{i}.")}) for i in range(1, 5))
        depth = _RESNETS.get(("backbone.layer1.0.conv3.weight" in state, blocks))
        if depth is None:
            raise ModelError(f"'{path}' is a ResNet of unknown depth, with {blocks} blocks; {_FOREIGN}.")
        return _ResNet(depth), f"ResNet-{depth} of mmpose"
    if not any(k.startswith(("backbone.", "head.")) for k in state):
        raise ModelError(
            f"'{path}' has no weights called backbone.* and keypoint_head.* or head.*, but {_names(state)}; "
            "give a whole top-down heatmap model of mmpose or KeyPosS."
        )
    raise ModelError(f"'{path}' is no HRNetV2, ResNet or MobileNetV2 of mmpose; its weights are {_names(state)}: {_FOREIGN}.")


def _hrnet(state: Weights, path: str | Path) -> tuple[HRNetV2, str]:
    width = state["backbone.stage2.0.branches.0.0.conv1.weight"].shape[0]
    entry = state.get("head.conv_layers.0.weight", state.get("head.final_layer.weight"))
    taken = entry.shape[1] if entry is not None and entry.ndim == 4 else 0
    branches = next((n for n in (2, 3, 4) if taken == width * ((1 << n) - 1)), None)
    if branches is None:
        raise ModelError(
            f"'{path}' is an HRNet of width {width} whose head takes {taken} channels, "
            f"not all branches together as HRNetV2's does; {_FOREIGN}."
        )
    ours = "backbone.conv3.weight" in state
    # Of the tail that KeyPosS never calls, each convolution stands for one halving of its heatmap.
    halvings = sum(1 for k, v in state.items() if re.fullmatch(r"head\.downscale_layer\.\d+\.weight", k) and v.ndim == 4)
    stride = 4 << halvings if ours else 4
    if stride not in STEMS or STEMS[stride][1] != branches:
        raise ModelError(f"'{path}' is an HRNetV2 with a head on {branches} branches, which no published heatmap size has; {_FOREIGN}.")
    return HRNetV2(stride, width), f"HRNetV2-W{width} of {'KeyPosS' if ours else 'mmpose'}"


def _head(state: Weights, channels: list[int], kind: str, path: str | Path) -> HeatmapHead:
    """The head by the shapes of its weights."""
    final = state.get("head.final_layer.weight")
    if final is None or final.ndim != 4:
        raise ModelError(f"'{path}' is a {kind} without a heatmap head (head.final_layer); give a top-down heatmap model.")
    deconv = [(w.shape[1], w.shape[-1]) for w in _convolutions(state, "head.deconv_layers")]
    conv = [(w.shape[0], w.shape[-1]) for w in _convolutions(state, "head.conv_layers")]
    if any(kernel not in _DECONV_KERNELS for _, kernel in deconv):
        raise ModelError(f"'{path}' is a {kind} whose head upsamples in a way mmpose's does not; {_FOREIGN}.")
    return HeatmapHead(channels, final.shape[0], deconv, conv, final.shape[-1])


def _convolutions(state: Weights, layers: str) -> list[torch.Tensor]:
    """Weights of the convolutions in a sequence, first to last."""
    found = {int(k.split(".")[2]): v for k, v in state.items() if re.fullmatch(re.escape(layers) + r"\.\d+\.weight", k) and v.ndim == 4}
    return [found[i] for i in sorted(found)]


def _fill(network: nn.Module, state: Weights, kind: str, path: str | Path) -> None:
    """Loads the weights if they are all there, of the right shapes, finite, and no others."""
    own = network.state_dict()
    counters = ".num_batches_tracked"  # of training alone
    faults = (
        ("lacks", [k for k in own if k not in state and not k.endswith(counters)]),
        ("has unknown weights", [k for k in state if k not in own]),
        ("has other shapes for", [k for k, v in state.items() if k in own and v.shape != own[k].shape and not k.endswith(counters)]),
        ("has values that are no numbers in", [k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]),
    )
    found = [f"{what} {_names(keys)}" for what, keys in faults if keys]
    if found:
        raise ModelError(f"'{path}' looks like {kind} but {', and '.join(found)}; {_FOREIGN}.")
    network.load_state_dict({k: v for k, v in state.items() if not k.endswith(counters)}, strict=False)


def _names(keys: Weights | list[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(keys)
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more
