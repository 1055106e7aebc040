"""A backbone, a light top-down decoder, and a head whose softmax maps are scaled to Gaussians of peak 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import nn

from keyposs_trt.training.networks.backbones import load_backbone

if TYPE_CHECKING:
    from keyposs_trt.training.recipe import Recipe


class SeparableConv(nn.Sequential):
    """Depthwise convolution, batch norm, ReLU, pointwise convolution, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, out, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )


class Fuse(nn.Module):
    """Doubles a coarse map, adds a finer feature, and mixes them."""

    def __init__(self, fine: int, width: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(fine, width, 1)
        self.mix = SeparableConv(width, width)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        return self.mix(F.interpolate(coarse, scale_factor=2.0, mode="nearest") + self.lateral(fine))


class LandmarkNet(nn.Module):
    """Maps of landmarks from a normalised image.

    ``forward`` gives logits [N, L, S, S] for images [N, 3, I, I]; ``heatmaps`` turns them into maps: a softmax is a
    probability a cell, times 2 pi sigma^2 the peak of a Gaussian of the training sigma is 1, that of a wider one less.

    Args:
        backbone: gives features at doubling strides, finest first.
        channels: of these features.
        width: channels of the decoder.
        points: L.
        sigma: sigma of the training target in heatmap pixels.
    """

    def __init__(self, backbone: nn.Module, channels: list[int], width: int, points: int, sigma: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.context = SeparableConv(channels[-1], width, kernel=5)
        self.fuse = nn.ModuleList(Fuse(c, width) for c in channels[-2::-1])
        self.head = nn.Conv2d(width, points, 1)
        self.peak = 2 * math.pi * sigma**2

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.backbone(image)
        x = self.context(features[-1])
        for fuse, fine in zip(self.fuse, features[-2::-1], strict=True):
            x = fuse(x, fine)
        return self.head(x)

    def heatmaps(self, logits: torch.Tensor) -> torch.Tensor:
        """[N, L, S, S] maps of logits of that shape."""
        return (logits.flatten(2).softmax(-1) * self.peak).view_as(logits)


def build_network(recipe: Recipe, points: int, weights: bool = True) -> LandmarkNet:
    """The network of a recipe; ``weights=False`` leaves the pretrained backbone weights out, as when loading a checkpoint."""
    n = recipe.network
    backbone, channels, _ = load_backbone(n.backbone, n.weights if weights else None, n.input_size // n.heatmap_size)
    return LandmarkNet(backbone, channels, n.width, points, recipe.target.sigma)
