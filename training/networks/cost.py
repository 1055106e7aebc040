"""What a network costs: parameters, and multiply-adds of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class NetworkCost:
    """``parameters``, and ``macs``: multiply-adds of the convolutions and linear layers for one image."""

    parameters: int
    macs: int

    def __str__(self) -> str:
        return f"{self.parameters / 1e6:.2f} M parameters, {self.macs / 1e9:.3f} GMAC"


def network_cost(network: nn.Module, input_size: int) -> NetworkCost:
    """Counts by running one black image [1, 3, S, S]; batch norms, activations and upsampling are left out, as folded or small.

    Args:
        network: takes one image.
        input_size: S in pixels.
    """
    macs = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs
        weight: Any = layer.weight
        # Each weight meets every output pixel once; of a transposed convolution, every input pixel; of a linear layer, every row.
        if isinstance(layer, nn.Linear):
            places = output.numel() // output.shape[-1]
        else:
            places = (inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output)[0, 0].numel()
        macs += weight.numel() * places

    handles = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, _COUNTED)]
    training = network.training
    device = next(network.parameters()).device
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, input_size, input_size, device=device))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return NetworkCost(sum(p.numel() for p in network.parameters()), macs)
