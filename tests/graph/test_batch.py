from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from graph_tools import run  # noqa: E402

from keyposs_trt.graph.batch import free_batch  # noqa: E402


def network(constants_as_nodes: bool):
    """x [2, 3, 4, 4] through Reshape and Resize, with the batch of 2 in a constant, and a Reshape whose 2 is no batch."""
    h = onnx.helper
    shapes = {"flat": [2, -1], "all": [2, 3, 4, 4], "sizes": [2, 3, 8, 8], "rows": [2, 8]}
    nodes = [
        h.make_node("Reshape", ["x", "flat"], ["a"], "a"),
        h.make_node("Reshape", ["a", "all"], ["b"], "b"),
        h.make_node("Resize", ["b", "", "", "sizes"], ["c"], "c", mode="nearest"),
        h.make_node("Reshape", ["keep", "rows"], ["e"], "e"),
        h.make_node("MatMul", ["e", "e_t"], ["f"], "f"),
        h.make_node("ReduceSum", ["f"], ["g"], "g", keepdims=0),
        h.make_node("Add", ["c", "g"], ["y"], "y"),
    ]
    arrays = {"keep": np.ones(16, np.float32), "e_t": np.ones((8, 1), np.float32)}
    initializers = [onnx.numpy_helper.from_array(v, k) for k, v in arrays.items()]
    for name, shape in shapes.items():
        tensor = onnx.numpy_helper.from_array(np.array(shape), name)
        if constants_as_nodes:
            value = {"value_ints": shape} if name == "flat" else {"value": tensor}
            nodes.insert(0, h.make_node("Constant", [], [name], name, **value))
        else:
            initializers.append(tensor)
    value = h.make_tensor_value_info
    graph = h.make_graph(nodes, "g", [value("x", 1, [2, 3, 4, 4])], [value("y", 1, [2, 3, 8, 8])], initializers)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("constants_as_nodes", [False, True])
def test_any_batch_goes_through(constants_as_nodes):
    fixed = network(constants_as_nodes)
    before = fixed.SerializeToString()
    free = free_batch(fixed, 2)
    assert fixed.SerializeToString() == before
    for values in (free.graph.input, free.graph.output):
        values[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(free, full_check=True)
    x = np.random.default_rng(0).normal(0, 1, (5, 3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(free, x[:2])["y"], run(fixed, x[:2])["y"])
    np.testing.assert_array_equal(run(free, x)["y"][:2], run(fixed, x[:2])["y"])
    assert run(free, x)["y"].shape == (5, 3, 8, 8)


def test_other_sizes_are_left_alone():
    fixed = network(False)
    assert free_batch(fixed, 3) == fixed
