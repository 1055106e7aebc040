"""Batch norms folded into the convolutions before them: what an engine runs, and what INT8 rounds, are the folded weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from keyposs_trt.errors import UsageError

_TOLERANCE = 1e-3  # of the largest output: folding changes the order of sums


def fold_batch_norms(network: nn.Module, size: int) -> None:
    """Folds every batch norm that directly follows a convolution, in place: the convolution gets a bias, the batch norm goes.

    The layers are those that a run meets, as a batch norm may serve several convolutions, and may hold an activation, which stays (timm's
    ``BatchNormAct2d``). A batch norm elsewhere stays as it is.

    Args:
        network: takes normalised images [N, 3, S, S].
        size: S in pixels.

    Raises:
        UsageError: the folded network computes something else, as where a convolution also goes elsewhere.
    """
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    training = network.training
    network.eval()
    pairs: dict[nn.Module, tuple[str, nn.Module]] = {}
    before = _run(network, image, pairs)
    norms = {norm for _, norm in pairs.values()}
    for conv, (_, norm) in pairs.items():
        _fold(conv, norm)
    for name, module in list(network.named_modules()):
        if module in norms:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Sequential(*module.children()))
    after = _run(network, image, {})
    network.train(training)
    for a, b in zip(before, after, strict=True):
        if not torch.allclose(a, b, rtol=0, atol=_TOLERANCE * float(a.abs().max().clamp_min(1e-6))):
            raise UsageError("The batch norms of this network cannot be folded into its convolutions; calibrate its ONNX model instead.")


def _run(network: nn.Module, image: torch.Tensor, pairs: dict[nn.Module, tuple[str, nn.Module]]) -> list[torch.Tensor]:
    """All outputs for an image; ``pairs`` gets each convolution whose batch norm follows, with the name and the batch norm."""
    made: list[tuple[torch.Tensor, nn.Module]] = []

    def remember(conv: nn.Module, _: Any, output: torch.Tensor) -> None:
        made.append((output, conv))

    def meet(name: str) -> Any:
        def hook(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            conv = next((c for output, c in reversed(made) if output is inputs[0]), None)
            if conv is not None and pairs.setdefault(conv, (name, norm))[1] is not norm:
                raise UsageError(f"A convolution before '{name}' has two batch norms, which cannot be folded; calibrate the ONNX model.")

        return hook

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) or (isinstance(module, nn.ConvTranspose2d) and module.groups == 1):
            handles.append(module.register_forward_hook(remember))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(meet(name)))
    try:
        with torch.no_grad():
            every = getattr(network, "all_logits", None)
            return list(every(image).values()) if every else [network(image)]
    finally:
        for handle in handles:
            handle.remove()


def _fold(conv: Any, norm: Any) -> None:
    wanted = conv.weight.requires_grad
    transpose = isinstance(conv, nn.ConvTranspose2d)
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias, transpose
        )
    conv.weight, conv.bias = nn.Parameter(weight.detach(), wanted), nn.Parameter(bias.detach(), wanted)
