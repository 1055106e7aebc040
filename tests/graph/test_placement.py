"""Each rule of where INT8 goes, on a small graph of its own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from keyposs_trt.errors import UsageError
from keyposs_trt.graph.placement import name_nodes, place

RNG = np.random.default_rng(0)


def conv(x: str, y: str, cin: int, cout: int, group: int = 1, kernel: int = 1) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    weights = numpy_helper.from_array(RNG.normal(size=(cout, cin // group, kernel, kernel)).astype(np.float32), f"{y}.w")
    node = helper.make_node("Conv", [x, f"{y}.w"], [y], y, group=group, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
    return [node], [weights]


def graph_of(*parts: onnx.NodeProto | tuple[list[onnx.NodeProto], list[onnx.TensorProto]], channels: int = 4) -> onnx.GraphProto:
    """A stem, the parts from tensor ``a`` to tensor ``z``, and a head."""
    nodes, weights = [], []
    for part in (
        conv("image", "stem", 3, channels),
        helper.make_node("Relu", ["stem"], ["a"], "relu"),
        *parts,
        conv("z", "head", channels, 2),
    ):
        if isinstance(part, tuple):
            nodes += part[0]
            weights += part[1]
        else:
            nodes.append(part)
    value = helper.make_tensor_value_info
    return helper.make_graph(
        nodes, "g", [value("image", TensorProto.FLOAT, ["N", 3, 8, 8])], [value("head", TensorProto.FLOAT, None)], weights
    )


def test_inputs_of_convolutions_but_not_stem_and_head():
    found = place(graph_of(conv("a", "b", 4, 4), helper.make_node("Relu", ["b"], ["c"], "r"), conv("c", "z", 4, 4)))
    assert found.nodes == ("b", "z")
    assert found.kept == {"stem": "stem", "head": "head"}
    # Nothing between a convolution and its activation, nothing on the input of the head.
    assert found.tensors == ("a", "c")
    assert found.uses == {"a": (("b", 0),), "c": (("z", 0),)}


def test_residual_add_quantises_the_identity_branch_alone():
    add = helper.make_node("Add", ["c", "a"], ["d"], "add")
    found = place(graph_of(conv("a", "b", 4, 4), conv("b", "c", 4, 4), add, conv("d", "z", 4, 4)))
    # One pair behind ``a`` serves the convolution and the Add; none between convolution c and the Add.
    assert found.uses["a"] == (("b", 0), ("add", 1))
    assert "c" not in found.tensors
    assert found.tensors == ("a", "b", "d")


def test_add_of_two_convolutions_quantises_the_earlier_one():
    add = helper.make_node("Add", ["b", "c"], ["d"], "add")
    found = place(graph_of(conv("a", "b", 4, 4), conv("a", "c", 4, 4), add, conv("d", "z", 4, 4)))
    assert found.uses["b"] == (("add", 0),)
    assert "c" not in found.tensors


def test_of_two_convolutions_the_deeper_one_is_fused_however_the_nodes_are_ordered():
    short, long = conv("a", "short", 4, 4), [conv("a", "b", 4, 4), helper.make_node("Relu", ["b"], ["r"], "r"), conv("r", "long", 4, 4)]
    add, last = helper.make_node("Add", ["short", "long"], ["d"], "add"), conv("d", "z", 4, 4)
    for parts in ((short, *long, add, last), (*long, short, add, last)):
        found = place(graph_of(*parts))
        assert found.uses["short"] == (("add", 0),)
        assert "long" not in found.tensors


def test_add_without_a_quantised_convolution_is_left_alone():
    add = helper.make_node("Add", ["a", "b"], ["z"], "add")
    found = place(graph_of(helper.make_node("Sigmoid", ["a"], ["b"], "s"), add))
    assert found.tensors == ()


def test_a_convolution_that_goes_elsewhere_too_is_not_fused_with_the_add():
    parts = (
        conv("a", "b", 4, 4),
        helper.make_node("Add", ["b", "a"], ["d"], "add"),
        conv("b", "e", 4, 4),
        helper.make_node("Mul", ["d", "e"], ["z"], "mul"),
    )
    found = place(graph_of(*parts))
    assert ("add", 1) not in found.uses["a"]


def test_inputs_of_concat_share_one_scale_with_its_output():
    concat = helper.make_node("Concat", ["b", "a"], ["d"], "cat", axis=1)
    found = place(graph_of(conv("a", "b", 4, 4), concat, conv("d", "z", 8, 4)))
    assert set(found.tensors) == {"a", "b", "d"}
    assert len({found.group[t] for t in ("a", "b", "d")}) == 1
    assert set(found.uses["a"]) == {("b", 0), ("cat", 1)}
    assert found.uses["b"] == (("cat", 0),)


def test_resize_and_what_goes_in_share_one_scale():
    resize = helper.make_node("Resize", ["c", "", "scales"], ["d"], "up", mode="nearest")
    graph = graph_of(conv("a", "b", 4, 4), helper.make_node("Relu", ["b"], ["c"], "r"), resize, conv("d", "z", 4, 4))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    found = place(graph)
    assert found.group["d"] == found.group["c"] == "c"
    assert found.group["a"] == "a"
    assert found.uses["c"] == (("up", 0),)


def test_depthwise_convolution_is_quantised():
    assert place(graph_of(conv("a", "b", 4, 4, group=4, kernel=3), conv("b", "z", 4, 4))).nodes == ("b", "z")


def test_transposed_convolution_in_groups_stays():
    weights = numpy_helper.from_array(np.ones((4, 1, 2, 2), np.float32), "w")
    node = helper.make_node("ConvTranspose", ["a", "w"], ["z"], "up", group=4)
    found = place(graph_of(([node], [weights])))
    assert (found.nodes, found.kept["up"]) == ((), "grouped transposed convolution")


def test_weights_that_are_computed_stay():
    found = place(graph_of(helper.make_node("Conv", ["a", "a"], ["z"], "dynamic")))
    assert found.kept["dynamic"] == "weights are no constants"


def test_weights_behind_an_identity_are_constants():
    graph = graph_of(conv("a", "b", 4, 4), conv("b", "z", 4, 4))
    node = next(n for n in graph.node if n.name == "z")
    node.input[1] = "same"
    graph.node.insert(0, helper.make_node("Identity", ["b.w"], ["same"], "same"))
    assert place(graph).nodes == ("b", "z")


def test_exclude():
    parts = (conv("a", "b", 4, 4), conv("b", "z", 4, 4))
    found = place(graph_of(*parts), ["b"])
    assert (found.nodes, found.kept["b"], found.tensors) == (("z",), "excluded", ("b",))
    with pytest.raises(UsageError, match="no convolution 'c' to leave out; 'keyposs-trt calibrate MODEL --list' names them"):
        place(graph_of(*parts), ["c"])


def test_nothing_behind_the_head_is_quantised():
    graph = graph_of(conv("a", "z", 4, 4))
    graph.node.append(helper.make_node("Resize", ["head", "", "scales"], ["maps"], "up", mode="linear"))
    graph.node.append(helper.make_node("Add", ["maps", "maps"], ["twice"], "add"))
    assert place(graph).tensors == ("a",)


def test_nodes_without_a_name_get_one():
    graph = graph_of(conv("a", "z", 4, 4))
    graph.node[2].name = ""
    graph.node[3].name = "relu"
    name_nodes(graph)
    assert len({n.name for n in graph.node}) == len(graph.node)
    assert graph.node[2].name == "Conv:z"
