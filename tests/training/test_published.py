"""Checkpoints of mmpose and KeyPosS: read, recognised, computed as their own layout says, exported."""

from __future__ import annotations

import json
import os
import sys
import types

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from mmpose_layout import KEYPOSS, Forward, as_1x, checkpoint, hrnet, mobilenet, resnet  # noqa: E402
from tiny import write_faces  # noqa: E402

from keyposs_trt.cli.main import main  # noqa: E402
from keyposs_trt.decode import wls  # noqa: E402
from keyposs_trt.engine.runner import open_runner  # noqa: E402
from keyposs_trt.errors import ModelError  # noqa: E402
from keyposs_trt.graph import read_spec  # noqa: E402
from keyposs_trt.training.published import load_published, read_weights  # noqa: E402

MEAN, STD = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain():
    """HRNetV2-W18 of mmpose 0.x."""
    return hrnet(5)


def write(path, state, **more):
    torch.save(checkpoint(state, **more), path)
    return path


def close(model, expected, size):
    """Whether a loaded model computes the maps that the plain forward does, to 1e-4 of their deviation."""
    image = 10 * torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        maps, wanted = model.network(image), expected(image)
    assert maps.shape == (2, model.points, size // model.stride, size // model.stride)
    assert (wanted[0] - wanted[1]).std() > 0.01 * wanted.std()  # the image still matters behind so many layers
    torch.testing.assert_close(maps, wanted, rtol=0, atol=1e-4 * float(wanted.std()))


@pytest.mark.parametrize("size", KEYPOSS)
def test_keyposs_at_every_heatmap_size(tmp_path, size):
    state = hrnet(7, keyposs=size)
    model = load_published(write(tmp_path / "best_NME_epoch_60.pth", state))
    assert (model.kind, model.points, model.stride) == ("HRNetV2-W18 of KeyPosS", 7, 256 // size)
    close(model, lambda x: Forward(state).hrnet(x, size), max(64, model.multiple))


def test_mmpose_of_both_generations(tmp_path, plain):
    for name, state in (("0.x", plain), ("1.x", as_1x(plain))):
        model = load_published(write(tmp_path / f"{name}.pth", state))
        assert (model.kind, model.points, model.stride, model.multiple) == ("HRNetV2-W18 of mmpose", 5, 4, 32)
        close(model, Forward(plain).hrnet, 64)


@pytest.mark.parametrize(("depth", "blocks", "bottleneck"), [(18, (2, 2, 2, 2), False), (50, (3, 4, 6, 3), True)])
def test_resnet(tmp_path, depth, blocks, bottleneck):
    state = resnet(5, blocks, bottleneck)
    model = load_published(write(tmp_path / "resnet.pth", state))
    assert (model.kind, model.stride) == (f"ResNet-{depth} of mmpose", 4)
    close(model, lambda x: Forward(state).resnet(x, blocks), 64)


def test_mobilenet(tmp_path):
    state = mobilenet(5)
    model = load_published(write(tmp_path / "mobilenet.pth", as_1x(state)))
    assert (model.kind, model.stride) == ("MobileNetV2 of mmpose", 4)
    close(model, Forward(state).mobilenet, 64)


def test_wrappers_averages_and_what_else_lies_beside_the_weights(tmp_path, plain):
    noise = {"ema_" + k.replace(".", "_"): torch.full_like(v, 3) for k, v in plain.items()}
    shapes = {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
    close(
        load_published(write(tmp_path / "a.pth", {f"module.{k}": v for k, v in plain.items()} | noise | shapes)), Forward(plain).hrnet, 64
    )
    close(load_published(write(tmp_path / "b.pth", {f"module.ema_{k}": v for k, v in plain.items()})), Forward(plain).hrnet, 64)
    bare = tmp_path / "c.pth"
    torch.save({k: v.double() if v.is_floating_point() else v for k, v in plain.items()}, bare)
    close(load_published(bare), Forward(plain).hrnet, 64)


def test_safetensors(tmp_path, plain):
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    safetensors.save_file(plain, path)
    close(load_published(path), Forward(plain).hrnet, 64)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="no safetensors file, or a damaged one"):
        load_published(path)


class HistoryBuffer:
    """As in mmengine: histories of losses, and functions of its own class."""

    def __init__(self):
        self._log_history, self.best = np.arange(3.0), np.float64(0.04)
        self.methods = {"min": HistoryBuffer.min}

    def min(self):
        return self._log_history.min()


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_of_mmengine_beside_the_weights(tmp_path, monkeypatch, zipped):
    """Histories with NumPy arrays and methods, in a package that is not installed, in the file format of today and before 1.6."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    vars(module)["HistoryBuffer"] = HistoryBuffer
    state = {"backbone.conv1.weight": torch.arange(6.0).view(2, 3)}
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(HistoryBuffer, "__module__", module.__name__)
        path = tmp_path / "epoch_60.pth"
        hub = {"log_scalars": {"train/loss": HistoryBuffer()}}
        torch.save(checkpoint(state, message_hub=hub), path, _use_new_zipfile_serialization=zipped)
    monkeypatch.setattr(HistoryBuffer, "__setstate__", lambda *_: pytest.fail("code of the file's class ran"), raising=False)
    assert "mmengine" not in sys.modules
    torch.testing.assert_close(read_weights(path), state)


class Code:
    """Runs a function when unpickled."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def test_code_in_a_file_never_runs(tmp_path, plain):
    marker = tmp_path / "ran"
    harmless = write(tmp_path / "eval.pth", plain, hook=Code(eval, (f"open({str(marker)!r}, 'w')",)))
    close(load_published(harmless), Forward(plain).hrnet, 64)
    for i, function in enumerate((os.system, os.mkdir)):
        path = write(tmp_path / f"{i}.pth", plain, hook=Code(function, (f"mkdir {marker}" if i == 0 else str(marker),)))
        with pytest.raises(ModelError, match="cannot be read without running code that is in it, so it was not; if you trust it"):
            load_published(path)
    instead = write(tmp_path / "instead.pth", {**plain, "backbone.conv1.weight": Code(eval, ("1",))})
    with pytest.raises(ModelError, match=r"lacks backbone\.conv1\.weight;"):
        load_published(instead)
    assert not marker.exists()


def test_weights_that_do_not_fit(tmp_path, plain):
    path = tmp_path / "m.pth"
    lacking = {k: v for k, v in plain.items() if ".branches.2.0.conv1." not in k}
    with pytest.raises(
        ModelError, match=r"looks like HRNetV2-W18 of mmpose but lacks (backbone\.stage3\.\d\.\S+, ){2}\S+ and 4 more; export"
    ):
        load_published(write(path, lacking))
    with pytest.raises(ModelError, match=r"has unknown weights backbone\.se\.weight; export"):
        load_published(write(path, {**plain, "backbone.se.weight": torch.ones(3)}))
    with pytest.raises(ModelError, match=r"has other shapes for backbone\.conv2\.weight; export"):
        load_published(write(path, {**plain, "backbone.conv2.weight": torch.ones(32, 64, 3, 3)}))
    with pytest.raises(ModelError, match=r"values that are no numbers in backbone\.bn1\.bias; export"):
        load_published(write(path, {**plain, "backbone.bn1.bias": torch.full((64,), float("nan"))}))
    # Stages beyond the last are KeyPosS's habit only.
    with pytest.raises(ModelError, match=r"has unknown weights keypoint|has unknown weights head\.downscale_layer\.0\.weight"):
        load_published(write(path, {**plain, "keypoint_head.downscale_layer.0.weight": torch.ones(5, 5, 3, 3)}))


def test_other_networks_are_named(tmp_path, plain):
    path = tmp_path / "m.pth"
    body = {k: v for k, v in plain.items() if k.startswith("backbone.")}
    one = {**body, "keypoint_head.final_layer.weight": torch.ones(5, 18, 1, 1), "keypoint_head.final_layer.bias": torch.ones(5)}
    some = {
        "backbone.stem.conv.weight": torch.ones(1),
        "backbone.layer9.weight": torch.ones(1),
        "head.a": torch.ones(1),
        "head.b": torch.ones(1),
    }
    residual = resnet(5, (1, 1, 1, 1), False)
    for state, words in (
        (one, "an HRNet of width 18 whose head takes 18 channels, not all branches together"),
        (body, "whose head takes 0 channels"),
        (some, r"is no HRNetV2, ResNet or MobileNetV2 of mmpose; its weights are backbone.stem.conv.weight, .*, head.a and 1 more: export"),
        ({"conv1.weight": torch.ones(1)}, r"has no weights called backbone\.\* and .*, but conv1\.weight"),
        (residual, r"a ResNet of unknown depth, with \(1, 1, 1, 1\) blocks"),
        ({k: v for k, v in resnet(5, (2, 2, 2, 2), False).items() if "final" not in k}, "a ResNet-18 of mmpose without a heatmap head"),
    ):
        with pytest.raises(ModelError, match=words):
            load_published(write(path, state))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "There is no checkpoint"),
        (b"", "damaged"),
        (b"Dear reader", "damaged|cannot be read"),
        (b"PK\x03\x04", "damaged|cannot be read"),
    ],
)
def test_files_that_are_none(tmp_path, content, words):
    path = tmp_path / "m.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        load_published(path)
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="holds no weights by name"):
        load_published(path)


@pytest.mark.parametrize(("decoder", "weights", "size"), [("onnx", "fp32", 32), ("none", "fp16", 8)])
def test_export_through_the_command_line(tmp_path, capsys, decoder, weights, size):
    """The file runs in ONNX Runtime and gives what the NumPy decoder makes of the plain forward's maps."""
    state = hrnet(98, keyposs=size)
    path = write(tmp_path / "wflw.pth", state)
    options = f"--sigma 2 --grid corner --scheme wflw --input-size 128 --radius 3 --decoder {decoder} --weights {weights}"
    assert main(["export", str(path), *options.split()]) == 0
    out = tmp_path / "wflw.onnx"
    assert capsys.readouterr().out.startswith(f"{out} (")
    spec = read_spec(out)
    told = (spec.name, spec.scheme, spec.points, spec.input_size, spec.heatmap_size, spec.sigma, spec.grid, spec.crop_scale)
    assert told == ("wflw", "wflw", 98, 128, size // 2, 2, "corner", 1.25)
    crops = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    normalised = torch.from_numpy(((crops - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        maps = Forward(state).hrnet(normalised, size).numpy()
    if weights == "fp16":  # landmarks of noise may jump where weights are rounded
        import onnxruntime

        session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
        found = session.run(["heatmaps"], {"image": crops})[0]
        assert np.abs(found - maps).max() < 0.02 * np.abs(maps).max()
        assert out.stat().st_size < 0.6 * path.stat().st_size
        return
    expected = wls(maps, sigma=2, radius=3).to_crop(8, "corner")
    with open_runner(out, "onnxruntime", threads=1) as runner:
        found = runner(crops)
    np.testing.assert_allclose(found.landmarks, expected.points, atol=0.05)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("", 2, "is a network of another tool; say how it was trained with --sigma and --grid"),
        ("--sigma 2 --grid corner --heatmaps maps", 2, "Leave out --heatmaps"),
        ("--sigma 2 --grid corner --input-size 100", 2, "a HRNetV2-W18 of mmpose, must be a multiple of 32, not 100"),
        ("--sigma 0 --grid corner", 2, "sigma"),
    ],
)
def test_usage_errors(tmp_path, plain, capsys, options, code, words):
    path = write(tmp_path / "m.pth", plain)
    assert main(["export", str(path), *options.split()]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert [p.name for p in tmp_path.iterdir()] == ["m.pth"]


def test_a_checkpoint_of_ours_by_another_suffix(tmp_path, capsys):
    path = tmp_path / "ours.pth"
    torch.save({"hyper_parameters": {"recipe": {"name": "tiny"}}, "state_dict": {"x": torch.ones(1)}}, path)
    assert main(["export", str(path), "--sigma", "2"]) == 2
    assert "Leave out --sigma" in capsys.readouterr().err


def test_a_file_that_is_no_checkpoint_at_all_is_not_called_one_to_trust(tmp_path):
    path = tmp_path / "picture.pth"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    with pytest.raises(ModelError, match="is no PyTorch checkpoint, or a damaged one"):
        read_weights(path)


def test_evaluated_as_it_is(tmp_path, capsys):
    """The same figures as of the exported model."""
    weights, faces = write(tmp_path / "mobile.pth", mobilenet(68)), write_faces(tmp_path / "faces", 3)
    told = ["--sigma", "2", "--grid", "corner"]
    assert main(["export", str(weights), *told, "--weights", "fp32", "-o", str(tmp_path / "mobile.onnx")]) == 0
    results = []
    for model, options in ((weights, told), (tmp_path / "mobile.onnx", [])):
        capsys.readouterr()
        assert main(["eval", str(model), "--data", str(faces), "--decoder", "lls", "wls", "--json", "-", *options]) == 0
        results.append([row["nme"] for row in json.loads(capsys.readouterr().out)["results"]])
    assert results[0] == pytest.approx(results[1])
    assert main(["eval", str(weights), "--data", str(faces), "--heatmap", "32", *told]) == 2
