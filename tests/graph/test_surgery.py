from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_graphsurgeon")

from graph_tools import conv_network, foreign_network, run  # noqa: E402

from keyposs_trt.errors import BackendError, ModelError  # noqa: E402
from keyposs_trt.graph.surgery import cut_at, require_graphsurgeon  # noqa: E402

VALUE = np.random.default_rng(0).normal(0, 1, (1, 3, 64, 64)).astype(np.float32)


def test_one_output_is_kept_and_what_served_the_others_goes():
    network = foreign_network()
    before = network.SerializeToString()
    part = cut_at(network, "output", 1, ["N", 98, 16, 16])
    onnx.checker.check_model(part, full_check=True)
    assert [o.name for o in part.graph.output] == ["output"]
    assert "ArgMax" not in {n.op_type for n in part.graph.node}
    assert "all" not in {i.name for i in part.graph.initializer}
    np.testing.assert_array_equal(run(part, VALUE)["output"], run(network, VALUE)["output"])
    assert {p.key: p.value for p in part.metadata_props} == {"author": "somebody"}
    assert network.SerializeToString() == before


def test_inner_tensors_can_be_the_output():
    part = cut_at(conv_network(), "r1", 1, ["N", 32, 8, 8])
    assert {n.name for n in part.graph.node} == {"conv1", "bn", "zero", "relu6"}
    assert run(part, VALUE[:, :, :32, :32])["r1"].shape == (1, 32, 8, 8)


def test_unused_inputs_and_domains_are_dropped():
    network = foreign_network()
    network.graph.input.append(onnx.helper.make_tensor_value_info("more", 1, [1]))
    network.graph.output.append(onnx.helper.make_tensor_value_info("other", 1, [1]))
    network.graph.node.append(onnx.helper.make_node("Odd", ["more"], ["other"], "odd", domain="some.where"))
    network.opset_import.append(onnx.helper.make_opsetid("some.where", 1))
    part = cut_at(network, "output", 1, ["N", 98, 16, 16])
    assert [i.name for i in part.graph.input] == ["data"]
    assert [o.domain for o in part.opset_import] == [""]


def test_names_follow_into_subgraphs():
    h = onnx.helper
    value = h.make_tensor_value_info
    branch = h.make_graph([h.make_node("Neg", ["scores"], ["chosen"])], "branch", [], [value("chosen", 1, None)])
    nodes = [
        h.make_node("Relu", ["x"], ["scores"], "relu"),
        h.make_node("If", ["condition"], ["y"], "if", then_branch=branch, else_branch=branch),
    ]
    constant = onnx.numpy_helper.from_array(np.array(True), "condition")
    graph = h.make_graph(nodes, "g", [value("x", 1, [1, 2])], [value("y", 1, None)], [constant])
    network = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    part = cut_at(network, "y", 1, [1, 2], lambda name: "network/" + name if name == "scores" else name)
    onnx.checker.check_model(part, full_check=True)
    assert part.graph.node[0].output == ["network/scores"]
    assert run(part, np.array([[1, 2]], np.float32))["y"].tolist() == [[-1, -2]]


def test_is_quiet(capfd):
    network = foreign_network()
    network.graph.node[0].name = network.graph.node[1].name  # graphsurgeon would warn of it
    cut_at(network, "output", 1, ["N", 98, 16, 16])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["nothing", "data"])
def test_tensor_that_no_node_computes(name):
    with pytest.raises(ModelError, match=f"No node of the graph computes a tensor '{name}'"):
        cut_at(foreign_network(), name, 1, [1])


def test_without_graphsurgeon(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)
    with pytest.raises(BackendError, match="pip install onnx-graphsurgeon"):
        require_graphsurgeon()
