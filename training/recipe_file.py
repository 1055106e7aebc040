"""Recipes read from YAML files or plain dicts: every key and type checked against ``recipe.Recipe``."""

from __future__ import annotations

import difflib
import types
import typing
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from keyposs_trt.errors import UsageError
from keyposs_trt.training.recipe import Recipe

T = TypeVar("T")


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe file and applies ``key=value`` overrides (``training.epochs=3``; values are YAML).

    Raises:
        UsageError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    import yaml

    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise UsageError(f"The recipe '{path}' is not a mapping of keys to values; see training/recipes for examples.")
        for item in overrides or []:
            key, equals, value = item.partition("=")
            if not equals:
                raise UsageError(f"'--set {item}' has no '='; write --set key=value, such as --set training.epochs=3.")
            _set(tree, key.split("."), yaml.safe_load(value))
    except FileNotFoundError:
        raise UsageError(f"There is no recipe '{path}'; see training/recipes for those that come with the project.") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"Cannot read the recipe '{path}': {e}; give a YAML file.") from e
    except yaml.YAMLError as e:
        raise UsageError(f"The recipe '{path}' is not valid YAML: {' '.join(str(e).split())}") from e
    return recipe_from_dict(tree)


def with_heatmap(recipe: Recipe, size: int) -> Recipe:
    """A recipe of one size of maps for another size, with the size in its name.

    Raises:
        UsageError: the recipe trains several sizes together, or this one does not fit its input.
    """
    if recipe.network.coarser:
        together = ", ".join(map(str, recipe.network.sizes))
        raise UsageError(f"'{recipe.name}' trains maps of {together} together; leave out --heatmap, and choose one with export.")
    return replace(recipe, name=f"{recipe.name}-{size}", network=replace(recipe.network, heatmap_size=size))


def recipe_from_dict(tree: dict[str, Any]) -> Recipe:
    """A recipe from nested dicts, every key and type checked; raises UsageError."""
    return _parse(Recipe, tree, "")


def _set(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UsageError(f"'--set {'.'.join(keys)}': '{key}' is a value, not a group of keys.")
    tree[keys[-1]] = value


def _parse(kind: type[T], tree: dict[str, Any], prefix: str) -> T:
    hints = typing.get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # pyright: ignore
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known are {', '.join(known)}."
            raise UsageError(f"Unknown recipe key '{prefix}{key}'; {hint}")
    if "name" in known and "name" not in tree:
        raise UsageError("The recipe has no 'name'; give the model a short name.")
    return kind(**{k: _value(hints[k], v, prefix + k) for k, v in tree.items()})


def _value(kind: Any, value: Any, key: str) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise UsageError(f"Recipe key '{key}' is a group of keys, not {value!r}.")
        return _parse(kind, value, key + ".")  # pyright: ignore
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"Recipe key '{key}' is a list, not {value!r}.")
        item = typing.get_args(kind)[0]
        return tuple(str(v) if item is str else _value(item, v, key) for v in value)
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    mapping = next((o for o in options if typing.get_origin(o) is dict), None)
    if mapping is not None and isinstance(value, dict):
        of_key, of_value = typing.get_args(mapping)
        return {_value(of_key, k, key): _value(of_value, v, f"{key}.{k}") for k, v in value.items()}
    if value is None and type(None) in options:
        return None
    if bool in options and isinstance(value, bool):
        return value
    if float in options and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if str in options and isinstance(value, str):
        return value
    if float in options and isinstance(value, str):  # YAML 1.1 takes 1e-4, without a point, for text
        with suppress(ValueError):
            return float(value)
    if int in options and isinstance(value, int) and not isinstance(value, bool):
        return value
    names = " or ".join(_name(o) for o in options if o is not type(None))
    raise UsageError(f"Recipe key '{key}' must be {names}, not {value!r}.")


def _name(kind: Any) -> str:
    if typing.get_origin(kind) is dict:
        return " to ".join(k.__name__ for k in typing.get_args(kind))
    return kind.__name__
