"""A backbone and the plain heatmap head of published top-down models: what it gives are the maps themselves, without an activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

_DECONV_PADDING = {2: (0, 0), 3: (1, 1), 4: (1, 0)}  # kernel: padding and output padding that double the size exactly
_INITIAL = 0.001  # standard deviation of fresh weights, as mmpose draws them


DISTANCE = "distance"  # of a recipe's network.head


def encoded_distances(logits: torch.Tensor) -> torch.Tensor:
    """Heatmap values exp(-d^2 / 2) of distances to the anchors in units of sigma, d = softplus(logits), of the same shape.

    The paper's formulation (KeyPosS, arXiv 2305.16437): a map holds distances, encoded for the head; here the head gives them and the
    encoding is part of the graph, so that the decoders take both kinds of network.
    """
    return torch.exp(-0.5 * F.softplus(logits.float()) ** 2)


class HeatmapHead(nn.Module):
    """Deconvolutions, convolutions and a last convolution to one map a landmark; the layers have mmpose's names.

    Args:
        channels: of the features, finest first. Several are brought to the finest resolution and concatenated.
        points: L, the number of maps.
        deconv: channels and kernel of each deconvolution with batch norm and ReLU; each doubles the size.
        conv: channels and kernel of each convolution with batch norm and ReLU.
        final_kernel: of the last convolution.
    """

    def __init__(
        self,
        channels: Sequence[int],
        points: int,
        deconv: Sequence[tuple[int, int]] = (),
        conv: Sequence[tuple[int, int]] = (),
        final_kernel: int = 1,
    ) -> None:
        super().__init__()
        width = sum(channels)
        up: list[nn.Module] = []
        for out, kernel in deconv:
            padding, more = _DECONV_PADDING[kernel]
            up += [nn.ConvTranspose2d(width, out, kernel, 2, padding, more, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            width = out
        mix: list[nn.Module] = []
        for out, kernel in conv:
            mix += [nn.Conv2d(width, out, kernel, padding=kernel // 2), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            width = out
        self.deconv_layers = nn.Sequential(*up)
        self.conv_layers = nn.Sequential(*mix)
        self.final_layer = nn.Conv2d(width, points, final_kernel, padding=final_kernel // 2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=_INITIAL)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        scaled = [F.interpolate(f, scale_factor=float(1 << i), mode="bilinear", align_corners=False) for i, f in enumerate(features[1:], 1)]
        x = torch.cat([features[0], *scaled], 1) if scaled else features[0]
        return self.final_layer(self.conv_layers(self.deconv_layers(x)))


class HeatmapNet(nn.Module):
    """Maps [N, L, S, S] of a normalised image [N, 3, I, I]; no softmax and no sigmoid.

    Args:
        backbone: gives a list of features, finest first, each half the size of the one before.
        head: makes maps of them.
        kind: ``heatmap``, or ``distance`` for a head that gives distances, see ``encoded_distances``.
    """

    def __init__(self, backbone: nn.Module, head: HeatmapHead, kind: str = "heatmap") -> None:
        super().__init__()
        self.kind = kind
        self.backbone = backbone
        self.head = head

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(image))

    def heatmaps(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps as they are, as the output of this network is linear; or those of distances."""
        return encoded_distances(maps) if self.kind == DISTANCE else maps
