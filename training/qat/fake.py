"""The rounding of INT8 in a network that is trained."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from keyposs_trt.graph.qdq import LEVELS
from keyposs_trt.training.qat.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Iterator


_LOWEST = -LEVELS - 1  # of activations: ONNX's QuantizeLinear and TensorRT clip at the ends of int8; weights are stored within -127 to 127


@dataclass(frozen=True)
class Plan:
    """Where a network is rounded.

    Attributes:
        start: digest of the checkpoint that the training began with.
        weights: names of the operators (see ``Calls``) whose weights are rounded, each output channel by its own largest magnitude.
        inputs: ``NAME@NUMBER`` of each input that is rounded -> which of the ranges it has; inputs that share a scale share one.
    """

    start: str
    weights: tuple[str, ...]
    inputs: dict[str, int]

    @property
    def ranges(self) -> int:
        """How many ranges there are."""
        return max(self.inputs.values(), default=-1) + 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint stores them."""
        return {**asdict(self), "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Plan:
        """The plan of ``to_dict``; TypeError, KeyError or ValueError where it is none."""
        return cls(str(tree["start"]), tuple(map(str, tree["weights"])), {str(k): int(v) for k, v in tree["inputs"].items()})


def input_name(operator: str, number: int) -> str:
    """How a plan calls an input of an operator."""
    return f"{operator}@{number}"


class FakeQuantisation(nn.Module):
    """Rounds and clips as a plan says, with zero at zero; gradients pass where nothing was clipped (straight-through estimator,
    Bengio et al. 2013, arXiv 1308.3432; by Jacob et al. 2018, arXiv 1712.05877, for weights and activations).

    Attributes:
        ranges: [R] the magnitude that becomes 127; not trained, but part of the state.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self._rounded = frozenset(plan.weights)
        self.ranges: torch.Tensor
        self.register_buffer("ranges", torch.ones(plan.ranges))

    @contextmanager
    def within(self, network: nn.Module) -> Iterator[None]:
        """While it is entered, the network computes with rounded weights and activations."""
        zero = torch.zeros((), dtype=torch.int32, device=self.ranges.device)
        scales = self.ranges / LEVELS
        done: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

        def rounded(name: str, number: int, x: torch.Tensor) -> torch.Tensor:
            which = self.plan.inputs.get(input_name(name, number))
            if which is None:
                return x
            # Many tensors go to several operators. One that is changed in place is another one then; in inference PyTorch does not say so.
            key = None if x.is_inference() else (id(x), x._version)
            if key not in done:
                y = torch.fake_quantize_per_tensor_affine(x.float(), scales[which], zero, _LOWEST, LEVELS)
                if key is None:
                    return y
                done[key] = (x, y)  # x too, so that its id stays taken
            return done[key][1]

        def rounded_weights(name: str, w: torch.Tensor, axis: int) -> torch.Tensor:
            if name not in self._rounded:
                return w
            return torch.fake_quantize_per_channel_affine(w, *_channels(w, axis), axis, -LEVELS, LEVELS)

        with Calls(network, rounded, rounded_weights):
            yield


def _channels(weights: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales [C] and zero points [C], as ``keyposs_trt.graph.qdq.weight_scales`` has them."""
    largest = weights.detach().abs().amax([i for i in range(weights.ndim) if i != axis])
    scales = torch.where(largest > 0, largest / LEVELS, 1.0)
    return scales, torch.zeros_like(scales, dtype=torch.int32)
