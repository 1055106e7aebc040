"""Quantisation-aware training: what PyTorch rounds is what the exported Q/DQ model rounds, and the way from a checkpoint to that model."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from tiny import write_faces, write_recipe  # noqa: E402

from keyposs_trt.cli.main import main  # noqa: E402
from keyposs_trt.errors import BuildError, DataError, ModelError, UsageError  # noqa: E402
from keyposs_trt.graph import is_quantised, qdq, read_spec, spec_of_model  # noqa: E402
from keyposs_trt.graph.placement import HEAD, STEM, place  # noqa: E402
from keyposs_trt.training import export  # noqa: E402
from keyposs_trt.training.checkpoint import load_checkpoint  # noqa: E402
from keyposs_trt.training.module import LandmarkModule  # noqa: E402
from keyposs_trt.training.processes import Processes  # noqa: E402
from keyposs_trt.training.qat import begin as qat  # noqa: E402
from keyposs_trt.training.qat.folding import fold_batch_norms  # noqa: E402
from keyposs_trt.training.qat.places import plan_of, ranges_of  # noqa: E402
from keyposs_trt.training.recipe_file import load_recipe, recipe_from_dict  # noqa: E402
from keyposs_trt.training.train import run_training  # noqa: E402
from keyposs_trt.training.uncertainty import decoded_on  # noqa: E402

SIZE = 64
NETWORKS = {
    "mobilenetv2_100": {"width": 8, "heatmap_size": 16, "coarser": [8]},
    "mobilenetv3_small_050": {"width": 8, "heatmap_size": 8},
    "resnet10t": {"width": 8, "heatmap_size": 16},
    "hrnetv2_w18": {"input_size": 128, "heatmap_size": 4},
}


def float_module(backbone):
    torch.manual_seed(0)
    network = {"backbone": backbone, "weights": None, "input_size": SIZE, **NETWORKS[backbone]}
    recipe = recipe_from_dict({"name": "tiny", "network": network}).to_dict()
    module = LandmarkModule(recipe, pretrained=False).eval()
    for layer in module.modules():  # as after a training: no two channels alike
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.uniform_(layer.bias, -0.2, 0.2)
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return module


def planned(module):
    """A module that is rounded, of a float one."""
    fold_batch_norms(module.network, module.recipe.network.input_size)
    found = LandmarkModule(module.recipe.to_dict(), pretrained=False, qat=plan_of(module, "").to_dict()).eval()
    found.network.load_state_dict(module.network.state_dict())
    return found


class Noise(torch.utils.data.Dataset):
    def __init__(self, side=SIZE):
        self.side = side

    def __getitem__(self, number):
        image = np.random.default_rng(number).integers(0, 256, (3, self.side, self.side)).astype(np.uint8)
        return torch.from_numpy(image), torch.zeros(1), torch.zeros(1)


@pytest.fixture(params=sorted(set(NETWORKS) - {"mobilenetv3_small_050"}))  # which divides by 6, and has means
def rounded(request, monkeypatch):
    """A module whose sums float32 holds exactly, in whatever order: otherwise values move across the edges of INT8's steps.

    Weights are whole multiples of powers of two, and so are the steps of the activations and the normalisation of the images.
    """
    monkeypatch.setattr(export, "IMAGENET_MEAN", (128 / 255,) * 3)
    monkeypatch.setattr(export, "IMAGENET_STD", (64 / 255,) * 3)
    monkeypatch.setattr(qat, "CROPS", 16)
    module = planned(float_module(request.param))
    module.mean.fill_(128)
    module.std.fill_(64)
    with torch.no_grad():
        for layer in module.network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                step = 2.0 ** math.floor(math.log2(float(layer.weight.abs().max()) / qdq.LEVELS))
                layer.weight.copy_((layer.weight / step).round().clamp(-qdq.LEVELS, qdq.LEVELS) * step)
                layer.weight.flatten(1)[:, 0] = qdq.LEVELS * step  # so that each channel has this step
                if layer.bias is not None:
                    layer.bias.copy_((layer.bias * 64).round() / 64)
        qat.calibrate(module, Noise(module.recipe.network.input_size))
        module.fake.ranges.copy_(2.0 ** (module.fake.ranges / qdq.LEVELS).log2().floor() * qdq.LEVELS)
    return module


def test_pytorch_rounds_as_the_exported_model(rounded):
    side = rounded.recipe.network.input_size
    images = np.random.default_rng(7).integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    for size in rounded.recipe.network.sizes:
        model = export.to_onnx(rounded, heatmap=size)
        found, _ = export.run_with_maps(export.to_int8(rounded, heatmap=size, fp16=False), images)
        network = export.network_of(rounded, size)
        with warnings.catch_warnings(), torch.inference_mode(), rounded.rounding():
            warnings.simplefilter("error")
            expected = network.heatmaps(network(rounded.normalised(torch.from_numpy(images).permute(0, 3, 1, 2)))).numpy()
        peak = np.abs(expected).max()
        assert np.abs(found - expected).max() < 1e-4 * peak
        plain, _ = export.run_with_maps(model, images)
        assert np.abs(plain - expected).max() > 1e-3 * peak  # it was rounded at all


@pytest.mark.parametrize("backbone", NETWORKS)
def test_every_tensor_of_the_graph_has_its_place(backbone):
    module = planned(float_module(backbone))
    plan = module.fake.plan
    module.fake.ranges.copy_(torch.arange(1, plan.ranges + 1))
    used = set()
    for size in module.recipe.network.sizes:
        model = export.to_onnx(module, "none", heatmap=size)
        placement = place(qdq.network_of(model).graph)
        assert set(placement.kept.values()) <= {STEM, HEAD}
        ranges = ranges_of(module, model, size)
        assert set(ranges) == set(placement.tensors)
        assert qdq.group_ranges(placement, ranges, "tiny") == ranges  # those that share a scale are one here as well
        used |= set(ranges.values())
    assert used == set(range(1, plan.ranges + 1))
    layers = {n for n, m in module.network.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)}
    kept = layers - set(plan.weights)
    assert set(plan.weights) <= layers
    assert all(n.endswith(("conv_stem", "conv1", "conv1.0", "final_layer")) or n.startswith("head.") for n in kept), kept


def test_folding_keeps_what_is_computed():
    module = float_module("mobilenetv2_100")
    images = module.normalised(Noise()[0][0][None])
    before = module.network(images)
    fold_batch_norms(module.network, SIZE)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.network.modules())
    torch.testing.assert_close(module.network(images), before, rtol=1e-3, atol=1e-4)


def test_a_batch_norm_elsewhere_stays():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    fold_batch_norms(network, 8)
    assert [isinstance(layer, torch.nn.BatchNorm2d) for layer in network] == [True, False, False, False]
    assert network.training

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)

        def forward(self, x):
            x = self.conv(x)
            return x + self.norm(x)

    odd = Twice()
    odd.norm.running_mean.fill_(1)
    with pytest.raises(UsageError, match="cannot be folded"):
        fold_batch_norms(odd, 8)


def test_a_graph_that_was_not_trained_is_refused():
    module = planned(float_module("mobilenetv2_100"))
    model = export.to_onnx(module, "none")
    some = dict(list(module.fake.plan.inputs.items())[1:])
    module.fake.plan = replace(module.fake.plan, inputs=some)
    with pytest.raises(BuildError, match="was not trained with"):
        ranges_of(module, model, 16)
    with torch.no_grad():
        module.network.context[3].weight.mul_(2)
    with pytest.raises(UsageError, match="other weights in"):
        ranges_of(module, model, 16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe, and the folder of its float training."""
    root = tmp_path_factory.mktemp("qat")
    recipe = write_recipe(root, write_faces(root / "faces"), likelihood_weight=0.05, ema=0.5)
    run_training(load_recipe(recipe), root / "run")
    return recipe, root / "run/last.ckpt"


@pytest.fixture(autouse=True)
def few_crops(monkeypatch):
    monkeypatch.setattr(qat, "CROPS", 32)


def recipe_of(file, *overrides):
    return load_recipe(file, [*qat.qat_overrides(load_recipe(file)), *overrides])


def test_from_the_command_line_to_a_model(trained, tmp_path, capsys):
    file, start = trained
    out = tmp_path / "int8"
    assert main(["train", str(file), "--qat", str(start), "-o", str(out), "--set", "training.epochs=1"]) == 0
    assert "keyposs-trt export" in capsys.readouterr().out
    module = load_checkpoint(out / "best.ckpt")
    assert module.recipe.name == "tiny-qat"
    assert module.measured_scales.keys() == module.lost_scores.keys() == {16, 8}
    for heatmap, weights, kind in (("8", "fp16", np.float16), ("16", "fp32", np.float32)):
        exported = tmp_path / f"{heatmap}.onnx"
        assert main(["export", str(out / "last.ckpt"), "--heatmap", heatmap, "--weights", weights, "-o", str(exported)]) == 0
        spec, model = read_spec(exported), onnx.load(exported)
        onnx.checker.check_model(model, full_check=True)
        assert (spec.name, spec.heatmap_size, spec.decoder) == (f"tiny-qat-{heatmap}", int(heatmap), "wls")
        assert (spec.covariance_scale != 1, spec.precision) == (True, "int8")
        assert is_quantised(model)
        stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
        assert {v.dtype for k, v in stored.items() if k.startswith("int8/") and k.endswith("/scale")} == {np.dtype(kind)}
    for decoder in ("plugin", "none"):
        exported = tmp_path / f"{decoder}.onnx"
        assert main(["export", str(out / "last.ckpt"), "--decoder", decoder, "--prior", "0.2", "-o", str(exported)]) == 0
        spec = spec_of_model(onnx.load(exported), exported)
        assert (spec.decoder, spec.precision, spec.decoder_parameters["prior"]) == (decoder, "int8", 0.2)
    data = str(file.parent / "faces/faces.json")
    capsys.readouterr()
    assert main(["eval", str(out / "last.ckpt"), "--data", data, "--heatmap", "16", "8", "--threads", "1"]) == 0
    assert main(["inspect", str(out / "last.ckpt")]) == 0
    assert "tiny-qat" in capsys.readouterr().out


def test_training_learns_to_live_with_coarse_steps(trained, tmp_path, monkeypatch):
    """Steps sixteen times as coarse: eight levels are left, and the training takes back what they cost."""
    file, start = trained
    fine = qat.range_of
    monkeypatch.setattr(qat, "range_of", lambda h, method: 16 * fine(h, method))
    recipe = recipe_of(file, "training.epochs=6", "training.learning_rate=2e-3")
    first = qat.begin(start, recipe).eval()
    from keyposs_trt.training.datasets.loaders import make_loaders

    loaders = make_loaders(recipe, Processes(0, 1, 1))
    qat.calibrate(first, loaders[0].dataset)

    def error(module):
        return np.mean([np.abs(each.errors).mean() / size for size, each in decoded_on(module, loaders[1]).items()])

    last = load_checkpoint(run_training(recipe, tmp_path / "run", qat=start))
    assert torch.equal(last.fake.ranges, first.fake.ranges)
    assert error(last) < 0.95 * error(first)


def test_a_run_that_is_cut_off_ends_like_an_unbroken_one(trained, tmp_path, monkeypatch):
    file, start = trained
    recipe, original = recipe_of(file, "training.epochs=2"), LandmarkModule.training_step
    unbroken = torch.load(run_training(recipe, tmp_path / "whole", qat=start), weights_only=True)

    def stop_in_second_epoch(self, batch, index):
        if self.current_epoch == 1:
            raise OSError("power cut")
        return original(self, batch, index)

    monkeypatch.setattr(LandmarkModule, "training_step", stop_in_second_epoch)
    with pytest.raises(OSError, match="power cut"):
        run_training(recipe, tmp_path / "cut", qat=start)
    monkeypatch.setattr(LandmarkModule, "training_step", original)
    with pytest.raises(DataError, match="another recipe"):
        run_training(load_recipe(file), tmp_path / "cut")
    other = tmp_path / "other.ckpt"
    other.write_bytes(start.read_bytes() + b" ")
    with pytest.raises(DataError, match="began with another checkpoint"):
        run_training(recipe, tmp_path / "cut", qat=other)
    resumed = torch.load(run_training(recipe, tmp_path / "cut", qat=start), weights_only=True)
    assert resumed["global_step"] == unbroken["global_step"] == 6
    assert resumed["hyper_parameters"]["qat"] == unbroken["hyper_parameters"]["qat"]
    for name, value in unbroken["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, rtol=1e-4, atol=1e-6)


def test_what_does_not_fit_is_one_sentence(trained, tmp_path, capsys):
    file, start = trained
    for override, words in (
        ("network.width=16", "network.width is 8, not 16"),
        ("target.crop_scale=1.5", "target.crop_scale is 1.25, not 1.5"),
        ("scheme=lapa", "scheme is 300w, not lapa"),
    ):
        with pytest.raises(UsageError, match=words):
            qat.begin(start, recipe_of(file, override))
    with pytest.raises(ModelError, match="no checkpoint"):
        qat.begin(tmp_path / "none.ckpt", recipe_of(file))
    ours = tmp_path / "ours.ckpt"
    content = torch.load(start, weights_only=True)
    module = qat.begin(start, recipe_of(file))
    torch.save({**content, "hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, ours)
    with pytest.raises(UsageError, match="trained for INT8 already"):
        qat.begin(ours, recipe_of(file))
    with torch.no_grad():
        for layer in module.network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
                layer.bias.zero_()
    with pytest.raises(DataError, match="gives zeros alone"):
        qat.calibrate(module, Noise())
    assert main(["train", str(file), "--qat", str(tmp_path / "none.ckpt"), "-o", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_defaults_can_be_overridden(trained):
    file, _ = trained
    recipe = recipe_of(file, "training.learning_rate=0.5")
    assert (recipe.name, recipe.training.epochs, recipe.training.learning_rate) == ("tiny-qat", 1, 0.5)
    assert recipe_of(file).training.learning_rate == pytest.approx(0.01 * load_recipe(file).training.learning_rate)
