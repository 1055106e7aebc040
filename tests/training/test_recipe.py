from __future__ import annotations

from pathlib import Path

import pytest

from keyposs_trt.errors import UsageError
from keyposs_trt.training.recipe import load_recipe, recipe_from_dict

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
