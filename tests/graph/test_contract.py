from __future__ import annotations

from dataclasses import replace

import pytest
from model_zoo import tiny_spec

from keyposs_trt.decode.multilateration import PRIOR, RADIUS
from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.graph.contract import FORMAT_VERSION, PREFIX, ModelSpec, check_decoder


def metadata(**changes):
    return {**tiny_spec().to_metadata(), **{PREFIX + k: v for k, v in changes.items()}}


def test_metadata_and_back():
    spec = replace(tiny_spec(), decoder_parameters={"radius": 4, "prior": 0.1}, training_data='"quotes", ünïcode')
    data = spec.to_metadata()
    assert all(isinstance(v, str) and k.startswith(PREFIX) for k, v in data.items())
    assert ModelSpec.from_metadata(data, "m.onnx") == spec


def test_foreign_keys_are_ignored():
    assert ModelSpec.from_metadata({**metadata(), "author": "x", "keyposs.later": "1"}, "m.onnx") == tiny_spec()


def test_without_metadata():
    with pytest.raises(ModelError, match=r"'m\.onnx' is an ONNX model without keyposs metadata; export it with 'keyposs-trt export'"):
        ModelSpec.from_metadata({"author": "x"}, "m.onnx")


@pytest.mark.parametrize("version", ["2", "0", "1.0", ""])
def test_another_version(version):
    with pytest.raises(ModelError, match=rf"version {version}, this keyposs-trt reads version {FORMAT_VERSION}; export the model again"):
        ModelSpec.from_metadata(metadata(format_version=version), "m.onnx")


@pytest.mark.parametrize(
    "key", [k for k in tiny_spec().to_metadata() if not k.endswith(("format_version", "covariance_scale", "lost_score", "precision"))]
)
def test_missing_key(key):
    data = tiny_spec().to_metadata()
    del data[key]
    with pytest.raises(ModelError, match=f"lacks the metadata key '{key}'; export the model again"):
        ModelSpec.from_metadata(data, "m.onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("points", "many"),
        ("points", "0"),
        ("input_size", "-128"),
        ("heatmap_size", "129"),
        ("heatmap_size", "0"),
        ("sigma", "0"),
        ("sigma", "NaN"),
        ("sigma", "Infinity"),
        ("grid", "centre"),
        ("crop_scale", "0"),
        ("covariance_scale", "0"),
        ("covariance_scale", "-1"),
        ("lost_score", "2"),
        ("precision", "fp8"),
        ("decoder", "argmax"),
        ("decoder", "Plugin"),
        ("decoder_parameters", "[1, 2]"),
        ("decoder_parameters", '{"radius": 0}'),
        ("decoder_parameters", '{"prior": "much"}'),
        ("points", "[68]"),
    ],
)
def test_wrong_values(key, value):
    with pytest.raises(ModelError, match=r"'m\.onnx'.*[Ee]xport the model again"):
        ModelSpec.from_metadata(metadata(**{key: value}), "m.onnx")


def test_stride_and_outputs():
    assert tiny_spec(heatmap_size=32, input_size=128).stride == 4
    assert tiny_spec().outputs == ("landmarks", "scores", "covariance")
    assert tiny_spec(decoder="plugin").outputs == ("landmarks", "scores", "covariance")
    assert tiny_spec(decoder="none").outputs == ("heatmaps",)


def test_solver_parameters_hold_the_defaults():
    assert tiny_spec().solver_parameters() == {"sigma": 2.0, "radius": RADIUS, "prior": PRIOR}


@pytest.mark.parametrize("decoder", ["wls", "plugin"])
def test_parameters_of_an_earlier_solver_are_left_out_where_the_graph_decodes(decoder):
    old = '{"floor": 0.05, "prior": 0.02, "radius": 3}'
    spec = ModelSpec.from_metadata(metadata(decoder=decoder, decoder_parameters=old), "m.onnx")
    assert spec == replace(tiny_spec(decoder=decoder), decoder_parameters={})


def test_parameters_of_an_earlier_solver_are_refused_where_the_caller_decodes():
    with pytest.raises(ModelError, match=r"decoder_parameters: .*'floor'.*Export the model again"):
        ModelSpec.from_metadata(metadata(decoder="none", decoder_parameters='{"floor": 0.05}'), "m.onnx")


def test_a_new_spec_with_an_unknown_parameter_is_refused():
    with pytest.raises(ModelError, match="'raduis'"):
        replace(tiny_spec(), decoder_parameters={"raduis": 3})


def test_check_decoder():
    assert check_decoder("plugin", 1.5, {"radius": 4}) == {"sigma": 1.5, "radius": 4, "prior": PRIOR}
    for decoder, sigma, parameters, words in (
        ("onnx", 2, {}, "no decoder 'onnx'; choose one of none, wls, plugin"),
        ("wls", 0, {}, "sigma must be in"),
        ("wls", 2, {"floor": 1}, "no parameter 'floor'; it has prior and radius"),
        ("wls", 2, {"radius": 1.5}, "radius must be a whole number"),
    ):
        with pytest.raises(UsageError, match=words):
            check_decoder(decoder, sigma, parameters)


def test_a_file_of_before_has_the_covariance_of_the_fit():
    data = tiny_spec().to_metadata()
    del data["keyposs.covariance_scale"]
    assert ModelSpec.from_metadata(data, "m.onnx").covariance_scale == 1
    assert ModelSpec.from_metadata({**data, "keyposs.covariance_scale": "90.5"}, "m.onnx").covariance_scale == 90.5
