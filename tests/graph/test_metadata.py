from __future__ import annotations

import sys

import pytest
from model_zoo import tiny_model, tiny_spec

onnx = pytest.importorskip("onnx")

from graph_tools import session  # noqa: E402

from keyposs_trt.errors import BackendError, ModelError  # noqa: E402
from keyposs_trt.graph import change_decoder, read_spec, spec_of_model, spec_of_session  # noqa: E402


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "good.onnx", points=5)


def changed(good, tmp_path, change):
    model = onnx.load(good)
    change(model)
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    return path


def set_key(key, value):
    return lambda model: onnx.helper.set_model_props(model, {**{p.key: p.value for p in model.metadata_props}, key: value})


@pytest.mark.parametrize("decoder", ["wls", "none"])
def test_reads_what_was_written(tmp_path, decoder):
    path = tiny_model(tmp_path / "m.onnx", heatmap_size=16, input_size=64, points=7, grid="corner", decoder=decoder)
    spec = read_spec(path)
    assert (spec.name, spec.points, spec.input_size, spec.heatmap_size, spec.grid, spec.decoder) == ("tiny", 7, 64, 16, "corner", decoder)
    assert spec == spec_of_session(session(onnx.load(path)), path) == spec_of_model(onnx.load(path), path)
    assert read_spec(str(path)) == spec


def test_needs_no_onnx_package(good, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert read_spec(good).points == 5


def test_without_onnxruntime(good, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match="pip install onnxruntime"):
        read_spec(good)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ModelError, match="There is no model"):
            read_spec(path)


@pytest.mark.parametrize("content", [b"garbage" * 100, b"\x00", b"\x08\x01", b"PK\x03\x04" + bytes(200)])
def test_garbage(tmp_path, content, capfd):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx' cannot be loaded as an ONNX model \(.*\); copy or export it again") as error:
        read_spec(path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_empty(tmp_path):
    path = tmp_path / "m.onnx"
    path.touch()
    with pytest.raises(ModelError, match="is empty; copy or export it again"):
        read_spec(path)


def test_truncated(good, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(good.read_bytes()[:-500])
    with pytest.raises(ModelError, match="again"):
        read_spec(path)


def test_foreign(good, tmp_path):
    path = changed(good, tmp_path, lambda m: m.ClearField("metadata_props"))
    with pytest.raises(ModelError, match="without keyposs metadata; export it with"):
        read_spec(path)


def test_another_version(good, tmp_path):
    path = changed(good, tmp_path, set_key("keyposs.format_version", "7"))
    with pytest.raises(ModelError, match="format version 7, this keyposs-trt reads version 1; export"):
        read_spec(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("input_size", "64", r"'image' of .* is uint8 \[N, 128, 128, 3\], but by its metadata uint8 \[N, 64, 64, 3\]; export"),
        ("points", "6", r"'landmarks' of .* is float32 \[N, 5, 2\], but by its metadata float32 \[N, 6, 2\]"),
        ("decoder", "none", r"gives landmarks, scores, covariance, but by its metadata it gives heatmaps; export the model again"),
    ],
)
def test_graph_disagrees_with_metadata(good, tmp_path, key, value, message):
    path = changed(good, tmp_path, set_key("keyposs." + key, value))
    with pytest.raises(ModelError, match=message):
        read_spec(path)
    with pytest.raises(ModelError, match=message):
        spec_of_model(onnx.load(path), path)


def test_fixed_batch_is_refused(good):
    model = onnx.load(good)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ModelError, match=r"is uint8 \[1, 128, 128, 3\]"):
        spec_of_model(model, "m.onnx")


def test_float_input_is_refused():
    from graph_tools import conv_network

    model = conv_network()
    onnx.helper.set_model_props(model, tiny_spec(heatmap_size=16, input_size=32, points=5, decoder="none").to_metadata())
    with pytest.raises(ModelError, match=r"is float32 \[1, 3, 32, 32\], but by its metadata uint8"):
        spec_of_model(model, "m.onnx")


def test_plugin_model_is_read_in_memory_and_refused_by_the_runtime(good, tmp_path):
    model = change_decoder(onnx.load(good), "plugin")
    assert spec_of_model(model, "m.onnx").decoder == "plugin"
    path = tmp_path / "p.onnx"
    onnx.save(model, path)
    with pytest.raises(BackendError, match=r"p\.onnx' decodes with TensorRT's plugin .*--decoder onnx.*--backend tensorrt'\.$"):
        read_spec(path)


@pytest.mark.parametrize(("decoder", "claimed"), [("plugin", "wls"), ("wls", "plugin")])
def test_metadata_that_name_another_decoder_are_refused(good, decoder, claimed):
    model = change_decoder(onnx.load(good), decoder)
    set_key("keyposs.decoder", claimed)(model)
    with pytest.raises(ModelError, match=f"By its metadata 'm.onnx' decodes with '{claimed}', and its graph with another"):
        spec_of_model(model, "m.onnx")
