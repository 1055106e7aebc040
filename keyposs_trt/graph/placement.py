"""Where INT8 goes in a network: which operators are quantised, and which tensors get a Q/DQ pair.

The rules are those of TensorRT's explicit quantisation (NVIDIA, TensorRT developer guide, "Working with quantized types"):

- weighted operators (convolutions and Gemm) take quantised input and quantised weights; nothing is quantised between them and the
  normalisation or activation behind them, which TensorRT fuses;
- at an Add that a quantised convolution ends in, exactly the other branch gets a pair, so that convolution and Add become one kernel;
- the inputs of a Concat, and what goes in and comes out of a Resize or a MaxPool, share one scale: these operators then run in INT8 without
  computing anything anew;
- the first and the last weighted operators (stem and head) stay as they are, and so does everything behind the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyposs_trt.errors import UsageError
from keyposs_trt.graph.onnx_package import DECODE, PREPROCESS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import onnx

WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
_PASSING = ("Resize", "Upsample", "MaxPool")  # what comes out lies in the range of what goes in
STEM, HEAD, EXCLUDED, GROUPED, DYNAMIC = "stem", "head", "excluded", "grouped transposed convolution", "weights are no constants"


@dataclass(frozen=True)
class Placement:
    """Where INT8 goes.

    Attributes:
        nodes: names of the quantised weighted operators, in graph order.
        kept: the other weighted operators by name, and why they are not.
        tensors: names of the tensors that get a Q/DQ pair, in graph order.
        group: for each of ``tensors`` the first one of those it shares its scale with.
        uses: the inputs that read the dequantised tensor, as (name of the node, number of its input).
    """

    nodes: tuple[str, ...]
    kept: dict[str, str]
    tensors: tuple[str, ...]
    group: dict[str, str]
    uses: dict[str, tuple[tuple[str, int], ...]]


def name_nodes(graph: onnx.GraphProto) -> None:
    """Gives nodes without a name, or with one that is taken, a name of their own: by what they do and give."""
    taken: set[str] = set()
    for node in graph.node:
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}:{node.output[0] if node.output else ''}"
        taken.add(node.name)


def weighted_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The convolutions and Gemms of the network, in graph order."""
    return [n for n in graph.node if n.op_type in WEIGHTED and not n.name.startswith((PREPROCESS, DECODE))]


def place(graph: onnx.GraphProto, exclude: Collection[str] = ()) -> Placement:
    """Finds where INT8 goes in a float network whose nodes have names of their own (``name_nodes``).

    Args:
        graph: a network in topological order, as ONNX wants it.
        exclude: names of weighted operators that stay in floating point.

    Raises:
        UsageError: ``exclude`` names what is no weighted operator.
    """
    net = _Net(graph)
    unknown = sorted(set(exclude) - {n.name for n in net.weighted})
    if unknown:
        raise UsageError(f"The network has no convolution '{unknown[0]}' to leave out; 'keyposs-trt calibrate MODEL --list' names them.")
    kept = {n.name: why for n in net.weighted if (why := net.why_kept(n, exclude))}
    chosen = [n for n in net.weighted if n.name not in kept]
    uses: dict[str, dict[tuple[str, int], None]] = {}
    groups = _Groups()
    for node in chosen:
        uses.setdefault(node.input[0], {})[node.name, 0] = None
    _residuals(net, {n.name for n in chosen}, uses)
    _through(net, uses, groups)
    order = {name: number for number, name in enumerate(net.order)}
    tensors = tuple(sorted(uses, key=lambda t: order.get(t, -1)))
    first: dict[str, str] = {}
    group = {t: first.setdefault(groups.root(t), t) for t in tensors}
    return Placement(tuple(n.name for n in chosen), kept, tensors, group, {t: tuple(uses[t]) for t in tensors})


class _Net:
    """Who makes and who takes what."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.constants = {i.name for i in graph.initializer} | {n.output[0] for n in self.nodes if n.op_type == "Constant"}
        # Exporters give weights that are equal once, and to the others by an Identity.
        self.constants |= {n.output[0] for n in self.nodes if n.op_type == "Identity" and n.input[0] in self.constants}
        self.outputs = {o.name for o in graph.output}
        self.takers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for number, name in enumerate(node.input):
                self.takers.setdefault(name, []).append((node, number))
        self.order = [*(i.name for i in graph.input), *(name for node in self.nodes for name in node.output)]
        # Operators on the longest way to a tensor: unlike its place in the graph it does not depend on how independent nodes are ordered.
        self.depth: dict[str, int] = {}
        for node in self.nodes:
            depth = 1 + max((self.depth.get(name, 0) for name in node.input), default=0)
            self.depth.update(dict.fromkeys(node.output, depth))
        self.weighted = weighted_nodes(graph)
        ids = {id(n) for n in self.weighted}
        self._behind = self._reached(self.nodes, ids, forward=True)
        self._before = self._reached(reversed(self.nodes), ids, forward=False)

    def why_kept(self, node: onnx.NodeProto, exclude: Collection[str]) -> str:
        """Why a weighted operator stays in floating point; nothing where it does not."""
        if id(node) not in self._behind:
            return STEM
        if id(node) not in self._before:
            return HEAD
        if node.name in exclude:
            return EXCLUDED
        if len(node.input) < 2 or node.input[1] not in self.constants or node.input[0] in self.constants:
            return DYNAMIC
        # Their output channels are spread over groups, so that no axis of the weights holds one scale a channel.
        if node.op_type == "ConvTranspose" and any(a.name == "group" and a.i > 1 for a in node.attribute):
            return GROUPED
        return ""

    def _reached(self, nodes: Iterable[onnx.NodeProto], weighted: set[int], *, forward: bool) -> set[int]:
        """Nodes that depend on a weighted one (forward), or that one depends on."""
        marked: set[str] = set()
        found: set[int] = set()
        for node in nodes:
            here, there = (node.input, node.output) if forward else (node.output, node.input)
            hit = bool(marked.intersection(here))
            if hit:
                found.add(id(node))
            if hit or id(node) in weighted:
                marked.update(name for name in there if name not in self.constants)
        return found


class _Groups:
    """Tensors that share a scale."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        while name in self._parent:
            name = self._parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        a, b = self.root(a), self.root(b)
        if a != b:
            self._parent[b] = a


def _residuals(net: _Net, chosen: set[str], uses: dict[str, dict[tuple[str, int], None]]) -> None:
    """The other branch of each Add that a quantised operator ends in."""
    for node in net.nodes:
        if node.op_type != "Add" or len(node.input) != 2 or net.constants.intersection(node.input) or node.input[0] == node.input[1]:
            continue
        fused = [i for i in (0, 1) if _ends_here(net, node.input[i], chosen)]
        if not fused:
            continue
        # Of two convolutions the one with more operators before it is fused, since the other's result is there when it runs.
        branch = max(fused, key=lambda i: (net.depth[node.input[i]], node.input[i]))
        uses.setdefault(node.input[1 - branch], {})[node.name, 1 - branch] = None


def _ends_here(net: _Net, tensor: str, chosen: set[str]) -> bool:
    """Whether a tensor comes straight from a quantised operator and goes nowhere else."""
    maker = net.maker.get(tensor)
    return maker is not None and maker.name in chosen and len(net.takers[tensor]) == 1 and tensor not in net.outputs


def _through(net: _Net, uses: dict[str, dict[tuple[str, int], None]], groups: _Groups) -> None:
    """Concats, Resizes and MaxPools whose result is quantised take quantised input of the same scale, back to where the values are made."""
    for node in reversed(net.nodes):
        if node.op_type not in (*_PASSING, "Concat") or node.output[0] not in uses:
            continue
        inputs = range(len(node.input)) if node.op_type == "Concat" else (0,)
        for number in inputs:
            name = node.input[number]
            if name in net.constants:
                continue
            uses.setdefault(name, {})[node.name, number] = None
            groups.join(node.output[0], name)
