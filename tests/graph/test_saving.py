from __future__ import annotations

import numpy as np
import pytest
from model_zoo import tiny_spec

onnx = pytest.importorskip("onnx")

from graph_tools import conv_network, run  # noqa: E402

from keyposs_trt.errors import BuildError, OutputError  # noqa: E402
from keyposs_trt.graph import (  # noqa: E402
    attach_decoder,
    attach_preprocessing,
    change_decoder,
    expand_weights,
    save_model,
    store_weights_fp16,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


@pytest.fixture
def model():
    network = conv_network(channels=256)
    return attach_decoder(attach_preprocessing(network), tiny_spec(heatmap_size=16, input_size=32, points=5))


def weights(model):
    return {i.name: i for i in model.graph.initializer}


def test_stored_weights_are_half_as_large(model):
    stored = store_weights_fp16(model)
    assert weights(stored)["expand/stem.weight"].data_type == 10
    assert weights(stored)["expand/head.weight"].data_type == 10
    large = 2 * (256 * 27 + 5 * 256)
    assert model.ByteSize() - stored.ByteSize() == pytest.approx(large, abs=500)
    onnx.checker.check_model(stored, full_check=True)
    assert model.metadata_props == stored.metadata_props


def test_only_the_networks_large_weights_are_stored_so(model):
    before, after = weights(model), weights(store_weights_fp16(model))
    assert {n.removeprefix("expand/") for n in after.keys() - before.keys()} == {"stem.weight", "head.weight"}


def test_stored_model_computes_the_same_but_for_rounding(model):
    a, b = run(model, IMAGES), run(store_weights_fp16(model), IMAGES)
    np.testing.assert_allclose(a["landmarks"], b["landmarks"], atol=0.1)
    assert np.abs(a["landmarks"] - b["landmarks"]).max() > 0


def test_expanding_gives_plain_float32_weights(model):
    stored = store_weights_fp16(model)
    expanded = expand_weights(stored)
    assert sorted(weights(expanded)) == sorted(weights(model))
    assert 10 not in {i.data_type for i in expanded.graph.initializer}
    assert [n.name for n in expanded.graph.node] == [n.name for n in model.graph.node]
    for name, value in run(stored, IMAGES).items():
        np.testing.assert_allclose(run(expanded, IMAGES)[name], value, rtol=1e-4, atol=1e-4)


def test_storing_twice_or_expanding_a_plain_model_changes_nothing(model):
    stored = store_weights_fp16(model)
    assert store_weights_fp16(stored).SerializeToString() == stored.SerializeToString()
    assert expand_weights(model).SerializeToString() == model.SerializeToString()


def test_too_large_weight_is_named():
    with pytest.raises(BuildError, match=r"'head\.weight' reaches .*, beyond float16's 65504; keep this model in FP32"):
        store_weights_fp16(conv_network(channels=256, weight=1e6))
    with pytest.raises(BuildError, match=r"'head\.weight' reaches nan"):
        store_weights_fp16(conv_network(channels=256, weight=float("nan")))


def test_save_writes_a_checked_file(model, tmp_path):
    path = tmp_path / "new" / "m.onnx"
    save_model(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    assert onnx.load(path) == model
    assert [p.name for p in path.parent.iterdir()] == ["m.onnx"]


def test_a_graph_with_the_plugin_is_stored_expanded_and_saved(model, tmp_path):
    plugin = change_decoder(model, "plugin")
    stored = store_weights_fp16(plugin)
    assert stored.graph.node[-1] == plugin.graph.node[-1]
    assert "expand/stem.weight" in weights(stored)
    assert sorted(weights(expand_weights(stored))) == sorted(weights(plugin))
    save_model(stored, tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)


def test_save_lowers_the_ir_version(model, tmp_path):
    model.ir_version = 13
    save_model(model, tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx").ir_version == 8


def test_invalid_graph_is_not_written(model, tmp_path):
    del model.graph.node[3]
    with pytest.raises(BuildError, match=r"m\.onnx' is not valid ONNX \(.*\); export the network again"):
        save_model(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        save_model(model, tmp_path / "file" / "m.onnx")
