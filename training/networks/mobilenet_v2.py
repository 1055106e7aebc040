"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) to its last 1x1 convolution, with mmpose's names."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import torch

# Channels, blocks and stride of the first block; all but the first layer expand by 6 (table 2 of the paper).
LAYERS = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
OUT = 1280


def _conv(channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    parts: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)),
        ("bn", nn.BatchNorm2d(out)),
    ]
    return nn.Sequential(OrderedDict([*parts, *([("activate", nn.ReLU6(inplace=True))] if relu else [])]))


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without an activation; a shortcut where nothing changes."""

    def __init__(self, channels: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = channels * expand
        widen = [_conv(channels, wide)] if expand != 1 else []
        self.conv = nn.Sequential(*widen, _conv(wide, wide, 3, stride, groups=wide), _conv(wide, out, relu=False))
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """The feature [N, 1280, I / 32, I / 32] of an image [N, 3, I, I], in a list.

    Attributes:
        channels: of the feature, in a list.
        multiple: I must be a multiple of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.multiple = [OUT], 32
        self.conv1 = _conv(3, 32, 3, 2)
        channels = 32
        for i, (out, blocks, stride) in enumerate(LAYERS, 1):
            inputs, strides = [channels, *[out] * (blocks - 1)], [stride, *[1] * (blocks - 1)]
            layer = [InvertedResidual(c, out, s, 1 if i == 1 else 6) for c, s in zip(inputs, strides, strict=True)]
            self.add_module(f"layer{i}", nn.Sequential(*layer))
            channels = out
        self.conv2 = _conv(channels, OUT)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.conv1(image)
        for i in range(1, len(LAYERS) + 1):
            x = self.get_submodule(f"layer{i}")(x)
        return [self.conv2(x)]
