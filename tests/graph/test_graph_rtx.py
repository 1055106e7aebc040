"""Every graph of ours must parse and build in TensorRT-RTX, strongly typed; no GPU is needed for that."""

from __future__ import annotations

import gc

import pytest
from model_zoo import heatmap_network, tiny_spec

onnx = pytest.importorskip("onnx")
trt = pytest.importorskip("tensorrt_rtx_bindings")

from keyposs_trt.graph import attach_decoder, attach_preprocessing, store_weights_fp16, to_fp16  # noqa: E402

pytestmark = pytest.mark.rtx


class Log(trt.ILogger):
    """Keeps warnings and errors."""

    def __init__(self):
        trt.ILogger.__init__(self)
        self.lines = []

    def log(self, severity, message):
        if severity <= trt.ILogger.Severity.WARNING:
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


def test_no_matrix_product_that_could_run_in_tf32():
    network = build(attach_decoder(attach_preprocessing(heatmap_network()), tiny_spec()), 128, plan=False)
    kinds = {network.get_layer(i).type for i in range(network.num_layers) if network.get_layer(i).name.startswith("decode/")}
    assert trt.LayerType.MATRIX_MULTIPLY not in kinds
