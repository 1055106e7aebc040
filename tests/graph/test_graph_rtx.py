"""Every graph of ours must parse and build in TensorRT-RTX, strongly typed; no GPU is needed for that."""

from __future__ import annotations

import gc

import pytest
from model_zoo import heatmap_network, tiny_spec

onnx = pytest.importorskip("onnx")
trt = pytest.importorskip("tensorrt_rtx_bindings")

from graph_tools import foreign_network  # noqa: E402

from keyposs_trt.graph import attach_decoder, attach_preprocessing, graft, store_weights_fp16, to_fp16  # noqa: E402
from keyposs_trt.graph.contract import PLUGIN_NAME  # noqa: E402

pytestmark = pytest.mark.rtx


class Log(trt.ILogger):
    """Keeps warnings and errors."""

    def __init__(self):
        trt.ILogger.__init__(self)
        self.lines = []
        self.least = trt.ILogger.Severity.WARNING

    def log(self, severity, message):
        if severity <= self.least:
            self.lines.append(message)


def build(model, size, plan):
    gc.collect()  # a builder that an earlier test left would keep its own log
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    assert parser.parse(model.SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    if plan:
        config = builder.create_builder_config()
        profile = builder.create_optimization_profile()
        profile.set_shape("image", (1, size, size, 3), (1, size, size, 3), (8, size, size, 3))
        config.add_optimization_profile(profile)
        assert builder.build_serialized_network(network, config), log.lines
    assert log.lines == []
    return network


def outputs(network):
    tensors = [network.get_output(i) for i in range(network.num_outputs)]
    return {t.name: (t.dtype, tuple(t.shape)) for t in tensors}


@pytest.mark.parametrize(("size", "crop"), [(64, 256), (32, 128), (16, 256), (8, 256), (4, 256)])
def test_decoder_builds_at_every_map_size(size, crop):
    network = attach_preprocessing(heatmap_network(heatmap_size=size, input_size=crop))
    built = build(attach_decoder(network, tiny_spec(heatmap_size=size, input_size=crop)), crop, plan=True)
    f = trt.DataType.FLOAT
    assert outputs(built) == {"landmarks": (f, (-1, 68, 2)), "scores": (f, (-1, 68)), "covariance": (f, (-1, 68, 3))}
    assert built.get_input(0).dtype == trt.DataType.UINT8


@pytest.mark.parametrize("decoder", ["wls", "none"])
@pytest.mark.parametrize("stored", [False, True])
def test_float16_graph_is_strongly_typed(decoder, stored):
    model = attach_decoder(attach_preprocessing(heatmap_network()), tiny_spec(decoder=decoder))
    network = build(to_fp16(store_weights_fp16(model) if stored else model), 128, plan=True)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    convolutions = [layer.get_output(0).dtype for layer in layers if layer.type == trt.LayerType.CONVOLUTION]
    assert convolutions == [trt.DataType.HALF] * 3
    assert all(kind == trt.DataType.FLOAT for kind, _ in outputs(network).values())
    decode = [layer.get_output(0).dtype for layer in layers if layer.name.startswith("decode/")]
    assert trt.DataType.HALF not in decode


@pytest.mark.parametrize("opset", [13, 18])
def test_grafted_network_builds(opset):
    """With what grafting adds: converted operators, swapped channels, a freed batch."""
    network = foreign_network(opset=opset)
    build(graft(network, name="f", sigma=2, grid="corner", channels="bgr"), 64, plan=True)
    half = to_fp16(graft(network, name="f", sigma=2, grid="corner", decoder="none"))
    kinds = outputs(build(half, 64, plan=False))
    assert kinds == {"heatmaps": (trt.DataType.FLOAT, (-1, 98, 16, 16))}


def test_the_parser_looks_for_the_plugin_by_name_version_and_namespace():
    """No library is loaded here, so the parser gives up; what it looked for stands in its log."""
    model = attach_decoder(attach_preprocessing(heatmap_network()), tiny_spec(decoder="plugin"))
    log = Log()
    log.least = trt.ILogger.Severity.VERBOSE
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    assert not parser.parse(model.SerializeToString())
    assert "Plugin not found" in parser.get_error(0).desc()
    assert parser.get_error(0).node_operator() == PLUGIN_NAME
    assert any(f"treated as plugin: {PLUGIN_NAME}, plugin_version: 1, plugin_namespace: " in line for line in log.lines)
