"""Training recipes: short YAML files with a checked schema."""

from __future__ import annotations

import difflib
import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from keyposs_trt.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class DataRecipe:
    """Where the faces come from.

    Attributes:
        root: folder the other paths stand in.
        portraits: folders of images with the teacher's points.
        mesh: npz file of the morphable mesh.
        views: views rendered a portrait.
        view_size: side of a view in pixels.
        yaw, pitch: standard deviation of the rendered turn in degrees.
        hold_out: images whose name ends so are never rendered, trained on or looked at.
        validation: images whose name ends so are for validation.
        original_share: share of training samples that are portraits as they are, not rendered.
        cache: folder for the rendered views.
    """

    root: str = "../shared/data"
    portraits: tuple[str, ...] = ("headshots", "portraits")
    mesh: str = "mesh/ict_face.npz"
    views: int = 40
    view_size: int = 192
    yaw: float = 28.0
    pitch: float = 11.0
    hold_out: tuple[str, ...] = ("7",)
    validation: tuple[str, ...] = ("13", "53", "93")
    original_share: float = 0.2
    cache: str = "runs/views"


@dataclass(frozen=True)
class NetworkRecipe:
    """``backbone``: a timm name; ``weights``: null, "imagenet" or a file; ``width``: decoder channels; sizes in pixels."""

    backbone: str = "mobilenetv2_100"
    weights: str | None = "imagenet"
    width: int = 96
    input_size: int = 128
    heatmap_size: int = 32


@dataclass(frozen=True)
class TargetRecipe:
    """``sigma`` in heatmap pixels; ``grid``: corner or half_pixel; ``crop_scale``: side of the crop over the box."""

    sigma: float = 1.5
    grid: str = "half_pixel"
    crop_scale: float = 1.25


@dataclass(frozen=True)
class TrainingRecipe:
    """Optimisation.

    Attributes:
        epochs, samples: length of training, in epochs of so many samples.
        batch, learning_rate, weight_decay: of AdamW.
        warmup: share of the steps with a rising learning rate; then a cosine to zero.
        coordinate_weight: weight of the coordinate loss against the map loss.
        ema: decay of the averaged weights, which are the ones evaluated and exported.
        workers, threads: data processes and PyTorch threads.
        seed: of every random number.
    """

    epochs: int = 30
    samples: int = 6000
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    coordinate_weight: float = 0.5
    ema: float = 0.999
    workers: int = 1
    threads: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """A whole training; see the parts for their fields."""

    name: str
    scheme: str = "300w"
    training_data: str = "not stated"
    licence: str = "not stated"
    data: DataRecipe = field(default_factory=DataRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    target: TargetRecipe = field(default_factory=TargetRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)

    def __post_init__(self) -> None:
        n = self.network
        checks = (
            (n.heatmap_size > 0 and n.input_size % n.heatmap_size == 0, "network.input_size must be a multiple of network.heatmap_size"),
            (self.target.grid in ("corner", "half_pixel"), "target.grid must be corner or half_pixel"),
            (self.target.sigma > 0, "target.sigma must be positive"),
            (self.data.views >= 1, "data.views must be at least 1"),
            (0 <= self.data.original_share <= 1, "data.original_share must be between 0 and 1"),
            (min(self.training.epochs, self.training.samples, self.training.batch) >= 1, "training lengths must be at least 1"),
        )
        for ok, message in checks:
            if not ok:
                raise UsageError(f"Recipe '{self.name}': {message}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, as stored in a checkpoint."""
        return asdict(self)


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
        return tuple(str(v) for v in value)
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    if float in options and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if str in options and isinstance(value, str):
        return value
    if int in options and isinstance(value, int) and not isinstance(value, bool):
        return value
    names = " or ".join(o.__name__ for o in options if o is not type(None))
    raise UsageError(f"Recipe key '{key}' must be {names}, not {value!r}.")
