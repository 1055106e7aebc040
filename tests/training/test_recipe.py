from __future__ import annotations

from pathlib import Path

import pytest

from keyposs_trt.errors import UsageError
from keyposs_trt.training.recipe_file import load_recipe, recipe_from_dict, with_heatmap

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_loads_and_is_named_after_its_file(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.training_data != "not stated"
    assert recipe_from_dict(recipe.to_dict()) == recipe


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_overrides_are_yaml(tmp_path):
    path = write(tmp_path, "name: a\ntraining: {epochs: 3}\n")
    recipe = load_recipe(path, ["training.epochs=5", "network.weights=null", "data.portraits=[x, y]"])
    assert (recipe.training.epochs, recipe.network.weights, recipe.data.portraits) == (5, None, ("x", "y"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ntrainning: {}\n", "did you mean 'training'"),
        ("name: a\ntraining: {epoch: 3}\n", "did you mean 'training.epochs'"),
        ("name: a\ntraining: {epochs: many}\n", "'training.epochs' must be int, not 'many'"),
        ("name: a\ntraining: {epochs: true}\n", "must be int"),
        ("name: a\ndata: {portraits: headshots}\n", "is a list"),
        ("name: a\nnetwork: 3\n", "is a group of keys"),
        ("name: a\nnetwork: {input_size: 100, heatmap_size: 32}\n", "must be a multiple"),
        ("name: a\ntarget: {grid: middle}\n", "corner or half_pixel"),
        ("name: a\nnetwork: {heatmap_size: 32, coarser: [16]}\ntarget: {sigma: {32: 1.5}}\n", "target.sigma says nothing of maps of 16"),
        ("name: a\ntarget: {sigma: {a: 1.5}}\n", "'target.sigma' must be int"),
        ("name: a\ntarget: {sigma: wide}\n", "must be float or int to float"),
        ("name: a\nnetwork: {heatmap_size: 16, coarser: [32]}\n", "must fall"),
        ("name: a\nnetwork: {coarser: 16}\n", "is a list"),
        ("name: a\nnetwork: {weights: null, frozen_stride: 4}\n", "needs network.weights"),
        ("name: a\naugment: {scale: [2, 1]}\n", "two positive numbers"),
        ("name: a\naugment: {borders: 1}\n", "must be bool"),
        ("name: a\naugment: {blur: 2}\n", "augment.blur must be between 0 and 1"),
        ("name: a\nscheme: wflw\n", "name a data.dataset"),
        ("name: a\ntraining: {samples: 0}\n", "at least 1 for rendered views"),
        ("name: a\ntraining: {map_loss: distance}\n", "needs network.head distance"),
        ("name: a\ntraining: {map_loss: squares}\n", "must be one of divergence"),
        ("name: a\ntraining: {optimiser: sgd}\n", "adamw or adam"),
        ("training: {epochs: 3}\n", "no 'name'"),
        ("- a\n", "not a mapping"),
        ("name: [\n", "not valid YAML"),
    ],
)
def test_wrong_recipes_say_what_is_wrong(tmp_path, text, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        load_recipe(write(tmp_path, text))


def test_missing_file_and_wrong_override(tmp_path):
    with pytest.raises(UsageError, match="no recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="has no '='"):
        load_recipe(write(tmp_path, "name: a\n"), ["training.epochs"])


PUBLISHED = ("wflw", "300w", "cofw", "aflw", "coco_wholebody_face")


@pytest.mark.parametrize("size", [64, 32, 16, 8, 4])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_recipes_are_there_for_every_size(name, size):
    recipe = with_heatmap(load_recipe(RECIPES / f"hrnetv2_w18_{name}.yaml"), size)
    assert recipe.name == f"hrnetv2_w18_{name}-{size}"
    assert (recipe.network.backbone, recipe.network.input_size, recipe.network.sizes) == ("hrnetv2_w18", 256, (size,))
    assert (recipe.target.sigma, recipe.target.kind, recipe.target.grid) == (2, "unbiased", "corner")
    assert recipe.training.map_loss == ("huber" if name in ("cofw", "coco_wholebody_face") else "mse")
    t, a = recipe.training, recipe.augment
    schedule = {"wflw": 1000, "300w": 100, "cofw": 210, "aflw": 100, "coco_wholebody_face": 1000}
    assert (t.epochs, t.schedule, t.milestones) == (schedule[name], *(("cosine", ()) if name == "cofw" else ("step", (40, 55))))
    assert (t.warmup_steps, t.weight_decay, t.clip, t.ema, t.coordinate_weight, t.samples) == (500, 0, 0, 0, 0, 0)
    assert (a.flip, a.rotate, a.angle, a.angle * a.angle_limit, a.scale) == (0.5, 0.6, 30, 60, (0.75, 1.25))
    assert recipe.data.boxes == ("landmarks" if name in ("wflw", "300w") else "annotated")
    assert (recipe.training.optimiser, recipe.training.learning_rate, recipe.training.batch) == ("adam", 0.002, 64)


def test_a_size_is_chosen_for_recipes_of_one(tmp_path):
    recipe = load_recipe(write(tmp_path, "name: a\nnetwork: {heatmap_size: 32, coarser: [16]}\n"))
    assert recipe.model_name(16) == "a-16"
    assert load_recipe(write(tmp_path, "name: a\n")).model_name(32) == "a"
    with pytest.raises(UsageError, match="32, 16 together"):
        with_heatmap(recipe, 16)
    with pytest.raises(UsageError, match="must be a multiple"):
        with_heatmap(load_recipe(write(tmp_path, "name: a\n")), 33)


def test_numbers_as_people_write_them(tmp_path):
    recipe = load_recipe(write(tmp_path, "name: a\ntraining: {learning_rate: 1e-4, weight_decay: 0}\n"), ["training.clip=1e2"])
    assert (recipe.training.learning_rate, recipe.training.weight_decay, recipe.training.clip) == (1e-4, 0.0, 100.0)


def test_sigma_for_each_size(tmp_path):
    recipe = load_recipe(write(tmp_path, "name: a\nnetwork: {heatmap_size: 32, coarser: [16]}\ntarget: {sigma: {32: 1.5, 16: 1}}\n"))
    assert [recipe.target.sigma_of(s) for s in recipe.network.sizes] == [1.5, 1.0]
    assert recipe_from_dict(recipe.to_dict()) == recipe
