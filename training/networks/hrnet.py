"""HRNetV2 (Sun et al. 2019, arXiv 1904.04514): branches of several resolutions side by side, exchanged after every module.

The layout of mmpose's ``HRNet`` with four branches out and bilinear upsampling; weights have its names. For maps coarser than a
quarter of the input the stem takes larger steps, as KeyPosS (arXiv 2305.16437) does it: at 256 pixels maps of 64, 32, 16, 8 and 4.
The two coarsest have further convolutions in the stem and stop after stage 3 and stage 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from keyposs_trt.training.networks.blocks import BasicBlock, Bottleneck, conv_bn

if TYPE_CHECKING:
    import torch

WIDTH = 18
STEM = 64
# Heatmap stride: strides of the stem's convolutions, and the number of branches the last stage has.
STEMS = {4: ((2, 2), 4), 8: ((4, 2), 4), 16: ((4, 4), 4), 32: ((4, 4, 2), 3), 64: ((4, 4, 2, 2), 2)}
MODULES = {2: 1, 3: 4, 4: 3}  # exchange modules of the stage with so many branches
_BLOCKS = 4


class ExchangeModule(nn.Module):
    """Four basic blocks on every branch; then each branch becomes the sum of all, brought to its resolution.

    Takes and gives a list of [N, C 2^i, H / 2^i, W / 2^i], finest first.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(_BLOCKS))) for c in channels)
        branches = range(len(channels))
        self.fuse_layers = nn.ModuleList(nn.ModuleList(_resample(channels, source, target) for source in branches) for target in branches)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        x = [branch(f) for branch, f in zip(self.branches, features, strict=True)]
        return [self.relu(sum(fuse(f) for fuse, f in zip(row, x, strict=True))) for row in self.fuse_layers]  # pyright: ignore


class HRNetV2(nn.Module):
    """Features of an image [N, 3, I, I]: a list of [N, C 2^i, S / 2^i, S / 2^i], finest first, with S = I / stride.

    Args:
        stride: input pixels per pixel of the finest feature: 4, 8, 16, 32 or 64.
        width: C, channels of the finest branch.

    Attributes:
        channels: of the features.
        multiple: I must be a multiple of it.
    """

    def __init__(self, stride: int = 4, width: int = WIDTH) -> None:
        super().__init__()
        steps, branches = STEMS[stride]
        self.channels = [width << i for i in range(branches)]
        self.multiple = stride << (branches - 1)
        for i, step in enumerate(steps, 1):
            self.add_module(f"conv{i}", nn.Conv2d(3 if i == 1 else STEM, STEM, 3, step, padding=1, bias=False))
        self._convolutions = len(steps)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.bn2 = nn.BatchNorm2d(STEM)  # KeyPosS has one for its second and all further convolutions: they got the same name
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Bottleneck(STEM, 256), *(Bottleneck(256, 256) for _ in range(_BLOCKS - 1)))
        self.transition1 = nn.ModuleList([conv_bn(256, width), nn.Sequential(conv_bn(256, 2 * width, stride=2))])
        for n in range(2, branches + 1):
            self.add_module(f"stage{n}", nn.ModuleList(ExchangeModule(self.channels[:n]) for _ in range(MODULES[n])))
            if n < branches:  # stage n ends with n branches; the next begins with one more, made from its coarsest
                coarser = nn.Sequential(conv_bn(width << (n - 1), width << n, stride=2))
                self.add_module(f"transition{n}", nn.ModuleList([*(nn.Identity() for _ in range(n)), coarser]))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = image
        for i in range(1, self._convolutions + 1):
            x = self.relu(self.get_submodule(f"bn{min(i, 2)}")(self.get_submodule(f"conv{i}")(x)))
        x = self.layer1(x)
        features = [x, x]
        for n in range(2, len(self.channels) + 1):
            begin: list[nn.Module] = list(self.get_submodule(f"transition{n - 1}").children())
            features = [enter(f) for enter, f in zip(begin, features, strict=True)]
            for module in self.get_submodule(f"stage{n}").children():
                features = module(features)
            features = [*features, features[-1]]
        return features[:-1]


def _resample(channels: list[int], source: int, target: int) -> nn.Module:
    """From the resolution and channels of one branch to those of another: 1x1 and upsampling, or steps of 3x3 with stride 2."""
    c, out = channels[source], channels[target]
    if source == target:
        return nn.Identity()
    if source > target:
        up = nn.Upsample(scale_factor=float(1 << (source - target)), mode="bilinear", align_corners=False)
        return nn.Sequential(*conv_bn(c, out, 1, relu=False), up)
    steps = target - source
    return nn.Sequential(*(conv_bn(c, c, stride=2) for _ in range(steps - 1)), conv_bn(c, out, stride=2, relu=False))
