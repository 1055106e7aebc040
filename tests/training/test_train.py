"""From a recipe to a model that runs: training, resuming, export, and the command line around them."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from keyposs_trt.cli.main import main  # noqa: E402
from keyposs_trt.errors import BuildError, DataError, ModelError  # noqa: E402
from keyposs_trt.graph import read_spec  # noqa: E402
from keyposs_trt.landmarker import Landmarker  # noqa: E402
from keyposs_trt.training.checkpoint import load_checkpoint  # noqa: E402
from keyposs_trt.training.datasets.loaders import EpochSampler  # noqa: E402
from keyposs_trt.training.datasets.views import TrainingViews, ViewStore  # noqa: E402
from keyposs_trt.training.export import check_against_torch, to_onnx  # noqa: E402
from keyposs_trt.training.recipe import AugmentRecipe  # noqa: E402
from keyposs_trt.training.recipe_file import load_recipe  # noqa: E402
from keyposs_trt.training.train import run_training  # noqa: E402


@pytest.fixture(scope="module")
def recipe_file(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp("train")
    (root / "faces").mkdir()
    with np.load(shared_data / "headshots" / "mediapipe478.npz") as z:
        chosen = [0, 1, 13]
        np.savez(root / "faces" / "mediapipe478.npz", names=z["names"][chosen], points=z["points"][chosen])
        for name in z["names"][chosen]:
            shutil.copy(shared_data / "headshots" / str(name), root / "faces")
    path = root / "tiny.yaml"
    path.write_text(f"""
name: tiny
training_data: three faces
licence: Apache-2.0
data: {{root: {root}, portraits: [faces], mesh: {shared_data / "mesh/ict_face.npz"}, views: 2, cache: {root / "views"}}}
network: {{weights: null, width: 8, input_size: 64, heatmap_size: 16}}
training: {{epochs: 2, samples: 8, batch: 4, workers: 0, threads: 1}}
""")
    return path


@pytest.fixture(scope="module")
def checkpoint(recipe_file):
    return run_training(load_recipe(recipe_file), recipe_file.parent / "run")


def test_training_writes_a_checkpoint_that_loads_without_pickle(checkpoint):
    module = load_checkpoint(checkpoint)
    assert module.recipe.name == "tiny"
    assert module(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 68, 16, 16)


def test_a_broken_off_run_ends_like_an_unbroken_one(recipe_file, checkpoint, monkeypatch):
    """Cut off after the first epoch, resumed: the same weights as without the cut."""
    from keyposs_trt.training.module import LandmarkModule

    out, original = recipe_file.parent / "cut", LandmarkModule.training_step

    def stop_in_second_epoch(self, batch, index):
        if self.current_epoch == 1:
            raise OSError("power cut")
        return original(self, batch, index)

    monkeypatch.setattr(LandmarkModule, "training_step", stop_in_second_epoch)
    with pytest.raises(OSError, match="power cut"):
        run_training(load_recipe(recipe_file), out)
    monkeypatch.setattr(LandmarkModule, "training_step", original)
    resumed = torch.load(run_training(load_recipe(recipe_file), out), weights_only=True)
    unbroken = torch.load(checkpoint, weights_only=True)
    assert resumed["global_step"] == unbroken["global_step"] == 4
    for name, value in unbroken["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, rtol=1e-4, atol=1e-6)


def test_a_folder_of_another_recipe_is_refused(recipe_file, checkpoint):
    with pytest.raises(DataError, match="another recipe"):
        run_training(load_recipe(recipe_file, ["training.learning_rate=0.1"]), checkpoint.parent)


def test_every_epoch_draws_other_samples_and_repeats_them(recipe_file, checkpoint):
    sampler = EpochSampler(8)
    first = list(sampler)
    sampler.set_epoch(1)
    assert set(first).isdisjoint(sampler)
    store = ViewStore(sorted((recipe_file.parent / "views").glob("*.npz")))
    data = TrainingViews(store, 0.5, np.arange(68), 64, 1.25, 0, AugmentRecipe())
    (image, points, labelled), (image_2, points_2, _) = data[5], data[5]
    assert image.shape == (3, 64, 64)
    assert image.dtype == torch.uint8
    assert points.shape == (68, 2)
    assert labelled.all()
    assert torch.equal(image, image_2)
    assert torch.equal(points, points_2)
    assert not torch.equal(image, data[6][0])


def test_export_and_run(checkpoint, tmp_path, capsys):
    out = tmp_path / "tiny.onnx"
    assert main(["export", str(checkpoint), "-o", str(out)]) == 0
    assert "tiny.onnx" in capsys.readouterr().out
    spec = read_spec(out)
    assert (spec.name, spec.points, spec.input_size, spec.heatmap_size, spec.training_data) == ("tiny", 68, 64, 16, "three faces")
    with Landmarker.load(out, detector=None) as landmarker:
        (face,) = landmarker(np.full((80, 80, 3), 128, np.uint8), np.array([[10, 10, 70, 70]], np.float32))
    assert face.points.shape == (68, 2)
    assert np.isfinite(face.points).all()
    maps_only = tmp_path / "maps.onnx"
    assert main(["export", str(checkpoint), "-o", str(maps_only), "--decoder", "none", "--weights", "fp32"]) == 0
    assert read_spec(maps_only).decoder == "none"
    assert maps_only.stat().st_size > 1.5 * out.stat().st_size


def test_a_model_may_have_another_name(checkpoint, tmp_path):
    out = tmp_path / "other.onnx"
    assert main(["export", str(checkpoint), "--name", "other", "--heatmap", "16", "-o", str(out)]) == 0
    assert read_spec(out).name == "other"
    assert main(["export", str(checkpoint), "--heatmap", "8", "-o", str(out)]) == 2
    assert main(["export", str(out), "--name", "third", "-o", str(tmp_path / "third.onnx")]) == 2


def test_an_export_that_computes_something_else_is_refused(checkpoint):
    module = load_checkpoint(checkpoint)
    model = to_onnx(module)
    check_against_torch(model, module)
    wrong = copy.deepcopy(model)
    places = next(i for i in wrong.graph.initializer if i.name == "decode/places")
    places.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(places) * np.float32(1.01), places.name))
    with pytest.raises(BuildError, match="landmarks differ"):
        check_against_torch(wrong, module)
    with torch.no_grad():
        module.network.head["16"].weight.mul_(3)
    with pytest.raises(BuildError, match="maps differ"):
        check_against_torch(model, module)


def test_bad_checkpoints_are_refused(checkpoint, tmp_path, capsys):
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(checkpoint.read_bytes()[:1000])
    other = tmp_path / "other.ckpt"
    torch.save({"weights": torch.zeros(2)}, other)
    empty = tmp_path / "empty.ckpt"
    torch.save({"hyper_parameters": {"recipe": None}, "state_dict": {}}, empty)
    for path, words in ((empty, "do not fit"), (cut, "damaged"), (other, "not a checkpoint"), (tmp_path / "none.ckpt", "no checkpoint")):
        with pytest.raises(ModelError, match=words):
            load_checkpoint(path)
        assert main(["export", str(path)]) == 1
        assert words in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.ckpt", "empty.ckpt", "other.ckpt"]


def test_train_on_the_command_line(recipe_file, checkpoint, capsys):
    assert main(["train", str(recipe_file), "-o", str(checkpoint.parent)]) == 0  # finished already: nothing left to do
    assert "last.ckpt" in capsys.readouterr().out
    assert main(["train", str(recipe_file), "--set", "training.epoch=1"]) == 2
    assert "did you mean 'training.epochs'" in capsys.readouterr().err
