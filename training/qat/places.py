"""Where the graph that is exported gets its Q/DQ pairs, in terms of PyTorch's calls: one placement, and not a second set of rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from keyposs_trt.errors import BuildError, UsageError
from keyposs_trt.graph import qdq
from keyposs_trt.graph.onnx_package import FLOAT, element_types
from keyposs_trt.graph.placement import name_nodes, place
from keyposs_trt.training.export import bare_graph, network_of, to_onnx
from keyposs_trt.training.qat.calls import ADD, AXES, CONCAT, MAX_POOL, RESIZE, Calls
from keyposs_trt.training.qat.fake import Plan, input_name

if TYPE_CHECKING:
    import onnx

    from keyposs_trt.graph.placement import Placement
    from keyposs_trt.training.module import LandmarkModule

_KINDS = {**{kind: kind for kind in (*AXES, ADD, CONCAT, RESIZE, MAX_POOL)}, "Upsample": RESIZE}


def plan_of(module: LandmarkModule, start: str) -> Plan:
    """Where a module is rounded: wherever one of its exported models, of all sizes of maps, is.

    Args:
        module: with its batch norms folded.
        start: digest of the checkpoint it is of.

    Raises:
        UsageError: the graph cannot be matched with PyTorch's calls, or has nothing to quantise.
    """
    weights: dict[str, None] = {}
    shared: dict[str, list[str]] = {}  # a list for each set of inputs that share a range
    for size in module.recipe.network.sizes:
        graph = qdq.network_of(to_onnx(module, "none", heatmap=size))
        placement = place(graph.graph)
        names = _names_of_nodes(graph, placement, module, size)
        weights.update(dict.fromkeys(names[node] for node in placement.nodes))
        for tensor in placement.tensors:
            first = placement.uses[placement.group[tensor]][0]
            for node, number in (first, *placement.uses[tensor]):
                _join(shared, input_name(names[first[0]], first[1]), input_name(names[node], number))
    if not weights:
        raise UsageError(f"'{module.recipe.name}' has no convolution between its first and its last one; there is nothing to quantise.")
    groups = list({id(group): group for group in shared.values()}.values())
    return Plan(start, tuple(weights), {name: number for number, group in enumerate(groups) for name in group})


def ranges_of(module: LandmarkModule, model: onnx.ModelProto, size: int) -> dict[str, float]:
    """The ranges of the tensors of an exported float model, as ``keyposs_trt.graph.quantise`` takes them.

    Raises:
        BuildError: the graph has a tensor to quantise that the training did not.
    """
    assert module.fake is not None
    graph = qdq.network_of(model)
    placement = place(graph.graph)
    names = _names_of_nodes(graph, placement, module, size)
    ranges, inputs = module.fake.ranges.tolist(), module.fake.plan.inputs
    found = {}
    for tensor in placement.tensors:
        node, number = placement.uses[tensor][0]
        which = inputs.get(input_name(names[node], number))
        if which is None:
            raise BuildError(f"'{module.recipe.name}' was not trained with '{tensor}' quantised; train it again with this version.")
        found[tensor] = ranges[which]
    return found


def _names_of_nodes(model: onnx.ModelProto, placement: Placement, module: LandmarkModule, size: int) -> dict[str, str]:
    """Name of a node -> name of PyTorch's call (see ``Calls``), of all nodes that a placement names.

    The exporter writes nodes in the order in which PyTorch runs, so that the n-th addition is the n-th; of convolutions the weights are
    compared too. The finished model has the same nodes in another order.

    Raises:
        UsageError: there are more of one kind here than there, a node cannot be found there, or their weights differ.
    """
    network = network_of(module, size)
    side = module.recipe.network.input_size
    weights: dict[str, torch.Tensor] = {}
    calls = Calls(network, lambda _name, _number, x: x, lambda name, w, _axis: weights.setdefault(name, w))
    training = network.training
    with torch.no_grad(), calls:
        network.heatmaps(network.eval()(torch.zeros(1, 3, side, side, device=module.device)))
    network.train(training)
    nodes = _nodes(bare_graph(module, size))
    for kind in sorted({*nodes, *calls.met}):
        here, there = len(calls.met.get(kind, [])), len(nodes.get(kind, []))
        if here != there:
            raise _other(module, f"{there} operators {kind} where PyTorch ran {here}")
    names = {node: name for kind, some in nodes.items() for node, name in zip(some, calls.met[kind], strict=True)}
    needed = {*placement.nodes, *(node for uses in placement.uses.values() for node, _ in uses)}
    if lost := sorted(needed - set(names)):
        raise _other(module, f"'{lost[0]}', which is no call of PyTorch's")
    values = qdq.constant_values(model.graph)
    for node in model.graph.node:
        if node.name in placement.nodes:
            own = weights[names[node.name]].detach().cpu().numpy()
            if own.shape != values[node.input[1]].shape or not np.array_equal(own, values[node.input[1]]):
                raise _other(module, f"other weights in '{node.name}' than PyTorch has in '{names[node.name]}'")
    return names


def _other(module: LandmarkModule, what: str) -> UsageError:
    return UsageError(
        f"The graph of '{module.recipe.network.backbone}' has {what}, so that it cannot be trained for INT8; export it and calibrate the "
        "ONNX model instead."
    )


def _nodes(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Kind -> names of the nodes, in order; without what computes with constants or sizes."""
    graph, types = model.graph, element_types(model)
    name_nodes(graph)
    constants = {i.name for i in graph.initializer} | {n.output[0] for n in graph.node if n.op_type == "Constant"}
    found: dict[str, list[str]] = {}
    for node in graph.node:
        kind = _KINDS.get(node.op_type)
        if kind is None or types.get(node.output[0], FLOAT) != FLOAT:
            continue
        if constants.intersection(node.input[:2] if kind == ADD else node.input if kind == CONCAT else node.input[:1]):
            continue
        found.setdefault(kind, []).append(node.name)
    return found


def _join(shared: dict[str, list[str]], a: str, b: str) -> None:
    """Puts two inputs, and all that share a range with them, into one list."""
    one, other = shared.setdefault(a, [a]), shared.setdefault(b, [b])
    if one is not other:
        one.extend(other)
        shared.update(dict.fromkeys(other, one))
