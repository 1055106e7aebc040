"""The operators of a network as PyTorch calls them, each by a name that an exported graph can be matched with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

ADD, CONCAT, RESIZE, MAX_POOL = "Add", "Concat", "Resize", "MaxPool"
# By what ONNX calls them; of the weighted ones also which axis of the weights counts the output channels.
AXES = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0}
_T = torch.Tensor
_KINDS: dict[Any, str] = {
    torch.conv2d: "Conv",
    torch.conv_transpose2d: "ConvTranspose",
    F.linear: "Gemm",
    **dict.fromkeys((torch.add, _T.add, _T.add_, _T.__add__, _T.__iadd__, _T.__radd__), ADD),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), CONCAT),
    **dict.fromkeys((F.interpolate, F.upsample), RESIZE),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), MAX_POOL),
}


class Calls(TorchFunctionMode):
    """While it is entered, shows the inputs of each operator that INT8 concerns, and puts others in their place.

    A convolution goes by the name of its weights, any other operator by its kind and number: ``backbone.conv_stem``, ``Add:3``. A part of a
    network that runs the first of its operators alone (``LandmarkNet.only``) gives them the same names.

    Args:
        network: whose weights are met.
        replace: name, number of the input, tensor -> the tensor to compute with.
        weights: name, tensor, axis of the output channels -> the weights to compute with.
    """

    def __init__(
        self,
        network: nn.Module,
        replace: Callable[[str, int, torch.Tensor], torch.Tensor],
        weights: Callable[[str, torch.Tensor, int], torch.Tensor],
    ) -> None:
        super().__init__()
        self._replace, self._weights = replace, weights
        self._names = {id(p): name.removesuffix(".weight") for name, p in network.named_parameters()}
        self._constants = {*self._names, *(id(b) for b in network.buffers())}
        self._numbers: dict[str, int] = {}
        self.met: dict[str, list[str]] = {}  # kind -> names of the operators that ran, in order

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kind = _KINDS.get(func)
        if kind is not None and self._concerns(kind, args):
            args = self._shown(kind, args)
        return func(*args, **(kwargs or {}))

    def _concerns(self, kind: str, args: tuple[Any, ...]) -> bool:
        """Whether a call is an operator on values of the network: not on constants, sizes or numbers."""
        if len(args) < (2 if kind in (*AXES, ADD) else 1):
            return False
        if kind == "Gemm" and args[0].ndim != 2:  # with more dimensions ONNX has a MatMul
            return False
        values = args[0] if kind == CONCAT else args[:2] if kind == ADD else args[:1]
        return all(isinstance(v, torch.Tensor) and v.is_floating_point() and id(v) not in self._constants for v in values)

    def _shown(self, kind: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        name = self._name(kind, args)
        self.met.setdefault(kind, []).append(name)
        if kind == CONCAT:
            return ([self._replace(name, i, v) for i, v in enumerate(args[0])], *args[1:])
        if kind == ADD:
            return (self._replace(name, 0, args[0]), self._replace(name, 1, args[1]), *args[2:])
        first = self._replace(name, 0, args[0])
        return (first, self._weights(name, args[1], AXES[kind]), *args[2:]) if kind in AXES else (first, *args[1:])

    def _name(self, kind: str, args: tuple[Any, ...]) -> str:
        own = self._names.get(id(args[1])) if kind in AXES else None
        number = self._numbers[own or kind] = self._numbers.get(own or kind, -1) + 1
        if own is None:
            return f"{kind}:{number}"
        return f"{own}:{number}" if number else own  # weights that serve again
