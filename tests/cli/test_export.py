"""``keyposs-trt export`` with ONNX files; checkpoints are in tests/training/test_export_checkpoint.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from model_zoo import heatmap_network, tiny_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_graphsurgeon")

from keyposs_trt.cli.main import main  # noqa: E402
from keyposs_trt.engine.runner import open_runner  # noqa: E402
from keyposs_trt.graph import read_spec, spec_of_model, to_fp16  # noqa: E402

CROPS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", points=5, heatmap_size=16, input_size=32)


@pytest.fixture
def foreign(tmp_path):
    """A network of another tool, in a folder of its own."""
    network = heatmap_network(points=98, heatmap_size=16, input_size=32, channels=64)
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "in" / "hrnet.onnx"
    path.parent.mkdir()
    onnx.save(network, path)
    return path


def landmarks(path):
    with open_runner(path, "onnxruntime", threads=1) as runner:
        return runner(CROPS).landmarks


def files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_from_one_decoder_to_the_next(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(model), "--decoder", "plugin"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("tiny-plugin.onnx (")
    assert "Next: keyposs-trt build tiny-plugin.onnx --backend tensorrt\n" in said
    assert spec_of_model(onnx.load("tiny-plugin.onnx"), "m").decoder == "plugin"
    assert main(["export", "tiny-plugin.onnx", "-o", "back.onnx"]) == 0
    assert "Next: keyposs-trt run SOURCE --model back.onnx\n" in capsys.readouterr().out
    np.testing.assert_array_equal(landmarks(tmp_path / "back.onnx"), landmarks(model))
    assert main(["export", "back.onnx", "--decoder", "none"]) == 0
    assert read_spec("back-none.onnx").decoder == "none"
    np.testing.assert_allclose(landmarks(tmp_path / "back-none.onnx"), landmarks(model), atol=0.01)
    assert main(["export", "back-none.onnx", "--radius", "2", "--prior", "0.5", "-o", "back-none.onnx"]) == 0  # over itself
    assert read_spec("back-none.onnx").decoder_parameters == {"radius": 2, "prior": 0.5}
    assert files(tmp_path) == ["back-none.onnx", "back.onnx", "tiny-plugin.onnx"]


def test_shipped_model_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "face68-32", "--decoder", "plugin"]) == 0
    assert spec_of_model(onnx.load("face68-32-plugin.onnx"), "m").name == "face68-32"


def test_network_of_another_tool(foreign, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(foreign), "--sigma", "2", "--grid", "corner"]) == 0
    out = tmp_path / "hrnet-onnx.onnx"
    assert capsys.readouterr().out.startswith("hrnet-onnx.onnx (")
    spec = read_spec(out)
    assert (spec.name, spec.scheme, spec.grid, spec.sigma, spec.crop_scale) == ("hrnet", "wflw", "corner", 2, 1.25)
    assert landmarks(out).shape == (2, 98, 2)
    options = "--sigma 1.5 --grid half_pixel --scheme wflw --heatmaps heatmaps --input-size 32 --name mine --normalise unit --channels bgr"
    options += " --crop-scale 1.5 --weights fp16 --radius 4"
    small = tmp_path / "small.onnx"
    assert main(["export", str(foreign), *options.split(), "-o", str(small)]) == 0
    spec = read_spec(small)
    assert (spec.name, spec.sigma, spec.grid, spec.crop_scale, spec.decoder_parameters["radius"]) == ("mine", 1.5, "half_pixel", 1.5, 4)
    assert small.stat().st_size < 0.8 * out.stat().st_size
    assert main(["export", str(foreign), "--sigma", "2", "--grid", "corner", "--mean", "1", "2", "3", "--std", "4", "5", "6"]) == 0
    assert np.abs(landmarks(out) - landmarks(small)).max() > 0.1


def test_weights_stay_as_they_are_unless_asked(model, tmp_path):
    stored, plain = tmp_path / "stored.onnx", tmp_path / "plain.onnx"
    assert main(["export", str(model), "--weights", "fp16", "-o", str(stored)]) == 0
    assert stored.stat().st_size < model.stat().st_size
    assert main(["export", str(stored), "-o", str(plain)]) == 0
    assert plain.stat().st_size == pytest.approx(stored.stat().st_size, rel=0.01)
    assert main(["export", str(stored), "--weights", "fp32", "-o", str(plain)]) == 0
    assert plain.stat().st_size == pytest.approx(model.stat().st_size, rel=0.01)


def test_fp16_network_of_ours(model, tmp_path):
    half = tmp_path / "half.onnx"
    onnx.save(to_fp16(onnx.load(model)), half)
    assert main(["export", str(half), "--radius", "3", "-o", str(tmp_path / "new.onnx")]) == 0
    assert read_spec(tmp_path / "new.onnx").decoder_parameters["radius"] == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "is a network of another tool; say how it was trained with --sigma and --grid"),
        (["--sigma", "2"], "say how it was trained with --grid"),
        (["--sigma", "2", "--grid", "corner", "--mean", "1", "2", "3"], "either --normalise, or --mean and --std together"),
        (
            ["--sigma", "2", "--grid", "corner", "--mean", "1", "2", "3", "--std", "1", "1", "1", "--normalise", "none"],
            "either --normalise",
        ),
        (["--sigma", "2", "--grid", "corner", "--std", "1", "1", "0", "--mean", "1", "2", "3"], "three positive standard deviations"),
        (["--sigma", "0", "--grid", "corner"], "sigma must be in"),
        (["--sigma", "2", "--grid", "corner", "--scheme", "300w"], "'hrnet' has 98 heatmaps, and the scheme '300w' has 68 points"),
        (["--sigma", "2", "--grid", "corner", "--heatmaps", "maps"], "has no tensor 'maps'"),
        (["--sigma", "2", "--grid", "corner", "--radius", "99"], "radius must be a whole number"),
    ],
)
def test_usage_errors_with_a_network_of_another_tool(foreign, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(foreign), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert files(tmp_path) == ["hrnet.onnx"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--sigma", "2", "--crop-scale", "1"],
            "Leave out --sigma --crop-scale, which tell of networks of other tools; '{model}' is a model",
        ),
        (["--radius", "0"], "radius must be a whole number"),
        (["--prior", "-1"], "prior must be 0 or more"),
    ],
)
def test_usage_errors_with_a_model_of_ours(model, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(model), *options]) == 2
    assert words.format(model=model) in capsys.readouterr().err
    assert files(tmp_path) == []


def test_options_of_other_tools_with_a_checkpoint(tmp_path, capsys):
    assert main(["export", str(tmp_path / "last.ckpt"), "--grid", "corner"]) == 2
    assert "Leave out --grid, which" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "There is no model"), (b"", "is empty"), (b"Dear reader", "is no ONNX model, or a damaged one")],
)
def test_unreadable_files(tmp_path, monkeypatch, capsys, content, words):
    monkeypatch.chdir(tmp_path)
    path = Path("bad.onnx")
    if content is not None:
        path.write_bytes(content)
    assert main(["export", str(path), "--sigma", "2", "--grid", "corner", "-o", "out.onnx"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not Path("out.onnx").exists()


def test_networks_that_are_none(tmp_path, monkeypatch, capsys):
    """One whose weights are elsewhere, one that takes no image: a sentence, and nothing written."""
    monkeypatch.chdir(tmp_path)
    network = heatmap_network(points=98, heatmap_size=16, input_size=32)
    onnx.save(network, "parts.onnx", save_as_external_data=True, size_threshold=0, location="parts.bin")
    flat = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 4])],
    )
    onnx.save(onnx.helper.make_model(flat, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), "flat.onnx")
    for name, words in (("parts", "lie in another file"), ("flat", "must take float32 or float16 [N, 3, S, S]")):
        assert main(["export", f"{name}.onnx", "--sigma", "2", "--grid", "corner", "-o", "out.onnx"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert files(tmp_path) == ["flat.onnx", "parts.bin", "parts.onnx"]


def test_out_that_cannot_be_written(model, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["export", str(model), "-o", str(tmp_path / "file" / "m.onnx")]) == 1
    assert "Cannot write" in capsys.readouterr().err
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("package", ["onnx", "onnx_graphsurgeon"])
def test_without_the_packages(model, tmp_path, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(model), "-o", str(tmp_path / "m.onnx")]) == 1
    assert f"pip install {package.replace('_', '-')}" in capsys.readouterr().err


def test_torch_is_not_needed(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["export", str(model), "--decoder", "plugin", "-o", str(tmp_path / "m.onnx")]) == 0


def test_run_refuses_the_plugin_in_one_sentence(model, tmp_path, capsys):
    out = tmp_path / "p.onnx"
    assert main(["export", str(model), "--decoder", "plugin", "-o", str(out)]) == 0
    capsys.readouterr()
    photo = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
    assert main(["run", str(photo), "--model", str(out), "-o", str(tmp_path / "out.jpg")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"keyposs-trt export {out} --decoder onnx" in line
    assert files(tmp_path) == ["p.onnx"]
