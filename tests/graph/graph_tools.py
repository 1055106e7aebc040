"""What the tests of graphs share: a small network with the operators of real exports, and running a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


def session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, value: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs by name of a model with one input."""
    s = session(model)
    return dict(zip([o.name for o in s.get_outputs()], s.run(None, {s.get_inputs()[0].name: value}), strict=True))


def conv_network(input_name: str = "image", channels: int = 32, points: int = 5, weight: float = 1.0, opset: int = 17) -> onnx.ModelProto:
    """[N, 3, 32, 32] -> heatmaps [N, points, 16, 16] by Conv, BatchNormalization, Clip, ConstantOfShape, Resize; seeded."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    f32 = np.float32
    constants = {
        "stem.weight": rng.normal(0, 0.2, (channels, 3, 3, 3)),
        "bn.scale": rng.uniform(0.5, 1.5, channels),
        "bn.bias": rng.normal(0, 0.1, channels),
        "bn.mean": rng.normal(0, 0.1, channels),
        "bn.var": rng.uniform(0.5, 1.5, channels),
        "head.weight": weight * rng.normal(0, 0.1, (points, channels, 1, 1)),
        "six": np.array(6.0),
        "nobound": np.array(3.4e38),
        "scales": np.array([1, 1, 2, 2]),
    }
    node = helper.make_node
    nodes = [
        node("Conv", [input_name, "stem.weight"], ["c1"], "conv1", kernel_shape=[3, 3], strides=[4, 4], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["b1"], "bn"),
        node("Constant", [], ["zero"], "zero", value_float=0.0),
        node("Clip", ["b1", "zero", "six"], ["r1"], "relu6"),
        node("Shape", ["r1"], ["r1.shape"], "shape"),
        node("ConstantOfShape", ["r1.shape"], ["zeros"], "zeros"),
        node("Add", ["r1", "zeros"], ["r2"], "add"),
        node("Min", ["r2", "nobound"], ["r3"], "min"),
        node("Resize", ["r3", "", "scales"], ["up"], "resize", mode="linear", coordinate_transformation_mode="half_pixel"),
        node("Conv", ["up", "head.weight"], ["heatmaps"], "head", kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(input_name, 1, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("heatmaps", 1, [1, points, 16, 16])],
        [numpy_helper.from_array(np.asarray(v, f32), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.graph.node[0].doc_string = "/home/someone/network.py, line 3"
    return model


def foreign_network(opset: int = 13, points: int = 98, batch: int | str = 1, half: bool = False, **changes: Any) -> onnx.ModelProto:
    """What another tool might export: ``data`` [batch, 3, 64, 64] -> ``output`` [batch, points, 16, 16], and ``landmarks``, their argmax.

    Names collide with ours, and a Reshape holds the batch where that is fixed. Seeded; ``changes`` are of the input's shape and type.
    """
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(1)
    kind = np.float16 if half else np.float32
    shape = np.array([batch if isinstance(batch, int) else -1, 8, 16, 16])
    constants = {
        "decode/w": rng.normal(0, 0.3, (8, 3, 7, 7)).astype(kind),
        "heatmaps": rng.normal(0, 0.3, (points, 8, 1, 1)).astype(kind),
        "flat": np.array([0, 8, 256]),
        "shape": shape,
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["data", "decode/w"], ["scores"], "decode/conv", kernel_shape=[7, 7], strides=[4, 4], pads=[3, 3, 3, 3]),
        node("Relu", ["scores"], ["image"], "preprocess/relu"),
        node("Reshape", ["image", "flat"], ["rows"], "flatten"),
        node("Reshape", ["rows", "shape"], ["square"], "unflatten"),
        node("Conv", ["square", "heatmaps"], ["output"], "", kernel_shape=[1, 1]),
        node("Reshape", ["output", "all"], ["each"], ""),
        node("ArgMax", ["each"], ["landmarks"], "", axis=2, keepdims=0),
    ]
    constants["all"] = np.array([0, 0, 256])
    value = helper.make_tensor_value_info
    element = changes.get("element", 10 if half else 1)
    graph = helper.make_graph(
        nodes,
        "net",
        [value("data", element, changes.get("shape", [batch, 3, 64, 64]))],
        [value("output", 10 if half else 1, [batch, points, 16, 16]), value("landmarks", 7, [batch, points])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {"author": "somebody"})
    return model
