"""FP16 by casting the graph: the network in float16, preprocessing and decoder in float32.

Strongly typed TensorRT networks run every layer in the type the graph gives it, so the precision lives here and not in a
builder flag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import BuildError
from keyposs_trt.graph.contract import PLUGIN_NAME
from keyposs_trt.graph.onnx_package import DECODE, FLOAT, FLOAT16, PREPROCESS, copy_of, element_types, require_onnx, tidy
from keyposs_trt.graph.saving import expand_weights, fp16_values

if TYPE_CHECKING:
    import onnx

_CAST = "cast/"
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Inputs that ONNX wants in float32 whatever the data are: sizes and scales, by position.
_FLOAT_SLOTS = {"Resize": (1, 2), "Upsample": (1,)}
_REFUSED = {
    "QuantizeLinear": "cast to FP16 before Q/DQ nodes are placed",
    "DequantizeLinear": "cast to FP16 before Q/DQ nodes are placed",
    "If": "export the network without control flow",
    "Loop": "export the network without control flow",
    "Scan": "export the network without control flow",
}


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with its network computing in float16.

    Every node whose name does not start with ``preprocess/`` or ``decode/`` is the network, but for a softmax over the maps
    and what follows it: in float16 the tails of a map underflow and neighbours of its peak come out equal. The network's
    float32 constants, and the tensors that enter it, become float16; graph inputs and outputs keep their types. The decoder as a plugin
    takes the maps in float16 and gives float32.

    Args:
        model: a float32 model, opset 17 or later.

    Returns:
        A new model, strongly typed throughout.

    Raises:
        BuildError: a weight is too large for float16, or the graph holds operators that cannot be cast.
        BackendError: onnx is not installed.
    """
    onnx = require_onnx()
    model = expand_weights(copy_of(model))
    tidy(model)
    _constants_to_initializers(model.graph)
    for node in model.graph.node:
        if node.op_type in _REFUSED:
            raise BuildError(f"The graph has a {node.op_type} node '{node.name}' and cannot be cast to FP16; {_REFUSED[node.op_type]}.")
    _Caster(model.graph, element_types(model)).run()
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as e:
        reason = (str(e).strip().splitlines() or ["type error"])[0]
        raise BuildError(f"The graph cannot be cast to FP16 ({reason}); build it in FP32, or export the network again.") from e
    return model


def _softmax_tail(graph: onnx.GraphProto) -> set[str]:
    """Outputs of the softmax nodes behind the last weighted operator of their branch, and of all nodes after them."""
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    before_weights: set[str] = set()
    for node in reversed(graph.node):
        after = [n for name in node.output for n in consumers.get(name, [])]
        if any(n.op_type in _WEIGHTED or before_weights.intersection(n.output) for n in after):
            before_weights.update(node.output)
    tail: set[str] = set()
    for node in graph.node:
        if tail.intersection(node.input) or (node.op_type == "Softmax" and not before_weights.intersection(node.output)):
            tail.update(node.output)
    return tail


class _Caster:
    """One pass over the network's nodes; ``graph`` is changed in place."""

    def __init__(self, graph: onnx.GraphProto, types: dict[str, int]) -> None:
        self.graph = graph
        self.types = types
        self.constants = {i.name: i for i in graph.initializer}
        tail = _softmax_tail(graph)
        self.network = [n for n in graph.node if not n.name.startswith((PREPROCESS, DECODE)) and not tail.intersection(n.output)]
        self.made_here = {name for node in self.network for name in node.output}
        self.nodes: list[onnx.NodeProto] = []
        self.casts: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        inside = {id(n) for n in self.network}
        outputs = {o.name for o in self.graph.output}
        kept_outputs: list[onnx.NodeProto] = []
        for node in self.graph.node:
            if id(node) not in inside:
                self._enter_float(node)
                self.nodes.append(node)
                continue
            self._enter_half(node)
            self._attributes(node)
            self.nodes.append(node)
            for i, name in enumerate(node.output):
                if name in outputs and self.types.get(name) == FLOAT:
                    node.output[i] = _CAST + name
                    kept_outputs.append(self._node(_CAST + name, name, FLOAT))
        renamed = {n.output[0]: n.input[0] for n in kept_outputs}
        for node in self.nodes:
            for i, name in enumerate(node.input):
                if name in renamed:
                    node.input[i] = renamed[name]
        del self.graph.node[:]
        self.graph.node.extend([*self.nodes, *kept_outputs])
        self._drop_unused_constants()

    def _enter_half(self, node: onnx.NodeProto) -> None:
        """Float inputs of a network node become float16, save those ONNX wants in float32."""
        for i, name in enumerate(node.input):
            if self.types.get(name) != FLOAT:
                continue
            if i in _FLOAT_SLOTS.get(node.op_type, ()):
                if name in self.made_here:
                    node.input[i] = self._cast(name, FLOAT)
            elif name in self.constants:
                node.input[i] = self._half_constant(name)
            elif name not in self.made_here and node.op_type != "Cast":
                node.input[i] = self._cast(name, FLOAT16)

    def _enter_float(self, node: onnx.NodeProto) -> None:
        """Tensors of the network come back to float32 for the other nodes; a Cast and the plugin take them as they are."""
        for i, name in enumerate(node.input):
            if name in self.made_here and self.types.get(name) == FLOAT and node.op_type not in ("Cast", PLUGIN_NAME):
                node.input[i] = self._cast(name, FLOAT)

    def _attributes(self, node: onnx.NodeProto) -> None:
        """Attributes that name or hold an element type."""
        from onnx import helper, numpy_helper

        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == FLOAT:
                attribute.i = FLOAT16
        if node.op_type == "ConstantOfShape":
            value = next((numpy_helper.to_array(a.t) for a in node.attribute), np.zeros(1, np.float32))
            if value.dtype == np.float32:
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(fp16_values(value, node.name))))

    def _half_constant(self, name: str) -> str:
        from onnx import numpy_helper

        half = name + "/fp16"
        if half not in self.constants:
            tensor = numpy_helper.from_array(fp16_values(numpy_helper.to_array(self.constants[name]), name), half)
            self.graph.initializer.append(tensor)
            self.constants[half] = tensor
        return half

    def _cast(self, name: str, to: int) -> str:
        if (name, to) not in self.casts:
            self.casts[name, to] = f"{_CAST}{name}/{'fp16' if to == FLOAT16 else 'fp32'}"
            self.nodes.append(self._node(name, self.casts[name, to], to))
        return self.casts[name, to]

    def _node(self, source: str, target: str, to: int) -> onnx.NodeProto:
        from onnx import helper

        return helper.make_node("Cast", [source], [target], _CAST + target.removeprefix(_CAST), to=to)

    def _drop_unused_constants(self) -> None:
        used = {name for node in self.graph.node for name in node.input} | {o.name for o in self.graph.output}
        kept = [i for i in self.graph.initializer if i.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Constant nodes as initializers, so that there is one kind of constant to cast."""
    from onnx import helper, numpy_helper

    for node in [n for n in graph.node if n.op_type == "Constant"]:
        value = helper.get_attribute_value(node.attribute[0])
        kinds = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
        if node.attribute[0].name == "value":
            tensor = numpy_helper.from_array(numpy_helper.to_array(value), node.output[0])
        elif node.attribute[0].name in kinds:
            tensor = numpy_helper.from_array(np.array(value, kinds[node.attribute[0].name]), node.output[0])
        else:
            continue
        graph.initializer.append(tensor)
        graph.node.remove(node)
