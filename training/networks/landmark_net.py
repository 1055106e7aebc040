"""A backbone, a light top-down decoder, and a head whose softmax maps are scaled to Gaussians of peak 1."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import nn

from keyposs_trt.errors import UsageError
from keyposs_trt.training.networks.backbones import load_backbone, modules_down_to
from keyposs_trt.training.networks.heatmap_net import DISTANCE, encoded_distances

if TYPE_CHECKING:
    from keyposs_trt.training.recipe import Recipe

DEEPEST = 16  # stride of the features the decoder begins with, if no maps are coarser


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
    """Doubles a coarse map, adds a finer feature, and mixes them; a 1x1 convolution narrows the coarse map first where it is wider."""

    def __init__(self, coarse: int, fine: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(coarse, width, 1) if coarse != width else nn.Identity()
        self.lateral = nn.Conv2d(fine, width, 1)
        self.mix = SeparableConv(width, width)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        return self.mix(F.interpolate(self.narrow(coarse), scale_factor=2.0, mode="nearest") + self.lateral(fine))


class LandmarkNet(nn.Module):
    """Maps of landmarks from a normalised image, of one size or of several from the same features.

    ``forward`` gives logits [N, L, S, S] of the finest size for images [N, 3, I, I]; ``heatmaps`` turns them into maps: a softmax is a
    probability a cell, times 2 pi sigma^2 the peak of a Gaussian of the training sigma is 1, that of a wider one less. With the head
    ``distance`` the logits are distances instead, see ``encoded_distances``.

    Args:
        backbone: gives features at doubling strides, finest first.
        channels: of these features.
        width: channels of the decoder; half as many at stride 2, where a channel costs most.
        points: L.
        input_size: I in pixels.
        stride: of the backbone's coarsest feature.
        sigmas: size of the maps -> sigma of their training targets in heatmap pixels; the finest is that of the finest feature.
        kind: ``heatmap`` or ``distance``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: list[int],
        width: int,
        points: int,
        input_size: int,
        stride: int,
        sigmas: dict[int, float],
        kind: str = "heatmap",
    ) -> None:
        super().__init__()
        self.kind = kind
        self.backbone = backbone
        self.context = SeparableConv(channels[-1], width, kernel=5)
        self.fuse = nn.ModuleList()
        self.head = nn.ModuleDict()
        self.sigmas = dict(sigmas)
        size, coarse = input_size // stride, width
        for fine in [None, *channels[-2::-1]]:
            if fine is not None:
                size *= 2
                narrow = width // 2 if 2 * size >= input_size else width
                self.fuse.append(Fuse(coarse, fine, narrow))
                coarse = narrow
            if size in sigmas:
                self.head[str(size)] = nn.Conv2d(coarse, points, 1)
        self._coarsest = input_size // stride
        self._frozen: list[nn.Module] = []

    def freeze(self, modules: list[nn.Module]) -> None:
        """Keeps the weights and the batch statistics of parts of the backbone as they are, which saves their gradients."""
        self._frozen = modules
        for module in modules:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> LandmarkNet:
        """As of any module, but frozen parts stay in evaluation."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the maps, finest first."""
        return tuple(sorted((int(s) for s in self.head), reverse=True))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.all_logits(image)[self.sizes[0]]

    def all_logits(self, image: torch.Tensor, finest_share: float = 1.0) -> dict[int, torch.Tensor]:
        """Size -> logits [N, L, S, S] for images [N, 3, I, I].

        Args:
            image: normalised.
            finest_share: the finest of several maps are made for this share of the images only, the first ones, to save time in training.
        """
        features = self.backbone(image)
        x = self.context(features[-1])
        size, out = self._coarsest, {}
        finest = self.sizes[0]
        for step in range(len(self.fuse) + 1):
            if step:
                size, fine = 2 * size, features[-1 - step]
                if size == finest and len(self.head) > 1 and finest_share < 1:
                    some = max(1, round(finest_share * len(image)))
                    x, fine = x[:some], fine[:some]
                x = self.fuse[step - 1](x, fine)
            if str(size) in self.head:
                out[size] = self.head[str(size)](x)
        return out

    def heatmaps(self, logits: torch.Tensor) -> torch.Tensor:
        """[N, L, S, S] maps of logits of that shape."""
        if self.kind == DISTANCE:
            return encoded_distances(logits)
        size = self.sizes[0] if len(self.head) == 1 else logits.shape[-1]  # which an export traces as a tensor
        peak = 2 * math.pi * self.sigmas[size] ** 2
        return (logits.flatten(2).softmax(-1) * peak).view_as(logits)

    def only(self, size: int) -> LandmarkNet:
        """This network as it is with the maps of one size alone; what only finer ones need is left out.

        Raises:
            UsageError: it has no maps of this size.
        """
        if size not in self.sizes:
            raise UsageError(f"This network has maps of {', '.join(map(str, self.sizes))}, none of {size}; choose one of them.")
        one = copy.copy(self)
        one._modules = dict(self._modules)
        one.fuse = self.fuse[: (size // self._coarsest).bit_length() - 1]  # pyright: ignore (a part of a ModuleList is one)
        one.head = nn.ModuleDict({str(size): self.head[str(size)]})
        return one


def build_network(recipe: Recipe, points: int, pretrained: str | None) -> LandmarkNet:
    """The network of a recipe; ``pretrained`` is None, "imagenet" or a file, see ``load_backbone``."""
    n = recipe.network
    finest, coarsest = (n.input_size // size for size in (n.sizes[0], n.sizes[-1]))
    backbone, channels, strides = load_backbone(n.backbone, pretrained, finest, max(DEEPEST, coarsest))
    sigmas = {size: recipe.target.sigma_of(size) for size in n.sizes}
    reachable = [n.input_size // s for s in strides]
    if unreachable := [s for s in n.sizes if s not in reachable]:
        raise UsageError(
            f"'{n.backbone}' gives maps of {', '.join(map(str, reachable))} from {n.input_size} pixels, not of {unreachable[0]}; "
            "change network.heatmap_size or network.coarser."
        )
    network = LandmarkNet(backbone, channels, n.width, points, n.input_size, strides[-1], sigmas, n.head)
    _try(network, n.backbone, n.input_size)
    if n.frozen_stride:
        network.freeze(modules_down_to(backbone, n.backbone, n.frozen_stride))
    return network


def _try(network: LandmarkNet, name: str, size: int) -> None:
    """Refuses a backbone that does not give the features it promises: of transformers, which want crops of one size."""
    mode = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as e:
        why = " ".join(str(e).split())
        raise UsageError(
            f"'{name}' does not work with crops of {size} pixels here ({why}); choose another size, or a convolutional backbone."
        ) from e
    finally:
        network.train(mode)
