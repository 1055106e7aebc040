"""Training recipes: what can be said in one, and what makes sense; read from short YAML files by ``recipe_file``."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class DataRecipe:
    """Where the faces come from: an annotated data set, or portraits of which labelled views are rendered.

    Attributes:
        root: folder the other paths stand in.
        dataset: the data set's folder or annotation file (docs/datasets.md); null for rendered views.
        format: its format; null finds out.
        train_split, validation_split: its parts; null takes all of it.
        validation_dataset: where the validation faces are, if not in ``dataset``.
        boxes: crop by the box around the ``landmarks`` or by the ``annotated`` one.
        on_problem: ``skip`` or ``refuse`` annotations that cannot be used.
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
    dataset: str | None = None
    format: str | None = None
    train_split: str | None = "train"
    validation_split: str | None = "test"
    validation_dataset: str | None = None
    boxes: str = "landmarks"
    on_problem: str = "skip"
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
class AugmentRecipe:
    """Random changes of a training crop; all from ``rotate`` to ``jpeg`` are probabilities.

    Attributes:
        scale: the crop is larger or smaller by a factor between these two, log-uniform.
        shift: standard deviation of the crop's centre, as a share of its side.
        angle: standard deviation of the crop's rotation in degrees, cut at ``angle_limit`` times that.
        rotate: probability of a rotation at all.
        flip: mirroring; the points change places by the scheme's pairs.
        wear: glasses, a mask, a fringe, a hat or a hand, drawn where the landmarks say (68 points only).
        occlude: a patch of one colour or of another part of the picture.
        shade: light that falls off across the face.
        dark: low light, with its noise.
        colour: brightness, contrast, saturation and hue.
        grey, blur, noise, coarse, jpeg: no colour, less sharpness, noise, low resolution, compression.
        borders: what lies outside the picture is at random black, mirrored or drawn out, not always black.
    """

    scale: tuple[float, ...] = (0.8, 1.25)
    shift: float = 0.04
    angle: float = 14.0
    angle_limit: float = 3.0
    rotate: float = 1.0
    flip: float = 0.5
    wear: float = 0.15
    occlude: float = 0.25
    shade: float = 0.2
    dark: float = 0.1
    colour: float = 0.8
    grey: float = 0.1
    blur: float = 0.15
    noise: float = 0.2
    coarse: float = 0.15
    jpeg: float = 0.15
    borders: bool = True


@dataclass(frozen=True)
class NetworkRecipe:
    """What is trained.

    Attributes:
        backbone: ``hrnetv2_w18``, or the name of a timm model that gives features.
        weights: null, "imagenet", a file, or the last.ckpt of another run, whose network begins this one.
        frozen_stride: the backbone keeps its pretrained weights down to the feature of this stride; 0 trains all of it. The layers at fine
            resolution are half of the time of a step and learn least.
        width: decoder channels.
        input_size: side of the crops in pixels.
        heatmap_size: side of the maps, of the finest where there are several.
        coarser: further sizes of maps, trained together with the finest from the same features; each can be exported by itself.
        head: ``heatmap``, or ``distance``: the network gives distances to the anchors in units of sigma (the formulation of the KeyPosS
            paper), which become heatmap values inside the graph.
    """

    backbone: str = "mobilenetv2_100"
    weights: str | None = "imagenet"
    frozen_stride: int = 0
    width: int = 96
    input_size: int = 128
    heatmap_size: int = 32
    coarser: tuple[int, ...] = ()
    head: str = "heatmap"

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes of maps, finest first."""
        return (self.heatmap_size, *self.coarser)


@dataclass(frozen=True)
class TargetRecipe:
    """The targets.

    Attributes:
        sigma: in heatmap pixels; one for all sizes of maps, or size: sigma.
        kind: ``unbiased``, centred on the true point, or ``biased``, centred on the nearest heatmap pixel and cut at 3 sigma.
        grid: ``corner`` or ``half_pixel``.
        crop_scale: side of the crop over the box.
    """

    sigma: float | dict[int, float] = 1.5
    kind: str = "unbiased"
    grid: str = "half_pixel"
    crop_scale: float = 1.25

    def sigma_of(self, size: int) -> float:
        """Sigma of the maps of that size."""
        return self.sigma[size] if isinstance(self.sigma, dict) else self.sigma


@dataclass(frozen=True)
class TrainingRecipe:
    """Optimisation.

    Attributes:
        epochs: length of training.
        samples: faces an epoch, over all processes; 0 for every face of the data set once.
        batch: faces a step and process.
        optimiser: ``adamw`` or ``adam``.
        learning_rate, weight_decay: of it.
        warmup: share of the steps with a rising learning rate.
        warmup_steps: their number instead, if not 0.
        schedule: ``cosine`` to zero, or ``step``: a tenth at each epoch of ``milestones``.
        map_loss: ``divergence`` (for softmax maps), ``mse``, ``huber``, ``adaptive_wing`` or ``distance`` (for that head); null for what
            suits the head.
        huber_delta: knee of ``huber``.
        map_weight, coordinate_weight, likelihood_weight, anchor_weight: weights of the losses on the maps, on the decoded points, on
            points and covariance together, and POPoS's on the anchors.
        likelihood_from: share of the steps after which the likelihood counts.
        finest_share: share of a batch for which the finest of several maps are made.
        ema: decay of the averaged weights, which are the ones evaluated and exported; it rises to this over the first steps. 0 for none.
        patience: epochs without a better validation NME after which training ends; 0 for never.
        clip: largest norm of the gradient; 0 for any.
        precision: ``32-true``, ``16-mixed`` or ``bf16-mixed``.
        sync_batchnorm: batch statistics over all GPUs.
        workers, threads: data processes and PyTorch threads, of each process.
        seed: of every random number.
    """

    epochs: int = 30
    samples: int = 6000
    batch: int = 32
    optimiser: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    warmup_steps: int = 0
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    map_loss: str | None = None
    huber_delta: float = 0.6
    map_weight: float = 1.0
    coordinate_weight: float = 0.5
    likelihood_weight: float = 0.0
    likelihood_from: float = 0.3
    anchor_weight: float = 0.0
    finest_share: float = 1.0
    ema: float = 0.999
    patience: int = 0
    clip: float = 5.0
    precision: str = "32-true"
    sync_batchnorm: bool = True
    workers: int = 1
    threads: int = 2
    seed: int = 0


PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
MAP_LOSSES = ("divergence", "mse", "huber", "adaptive_wing", "distance")


@dataclass(frozen=True)
class Recipe:
    """A whole training; see the parts for their fields."""

    name: str
    scheme: str = "300w"
    training_data: str = "not stated"
    licence: str = "not stated"
    data: DataRecipe = field(default_factory=DataRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    target: TargetRecipe = field(default_factory=TargetRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)

    def __post_init__(self) -> None:
        for ok, message in (*_network_checks(self), *_data_checks(self), *_training_checks(self)):
            if not ok:
                raise UsageError(f"Recipe '{self.name}': {message}.")

    def model_name(self, size: int) -> str:
        """Short name of the model with maps of that size: the recipe's, with the size where there are several."""
        return f"{self.name}-{size}" if self.network.coarser else self.name

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, as stored in a checkpoint."""
        return asdict(self)


def _network_checks(recipe: Recipe) -> Iterator[tuple[bool, str]]:
    n, target = recipe.network, recipe.target
    yield n.input_size > 0, "network.input_size must be positive"
    for size in n.sizes:
        yield (
            size > 0 and n.input_size % size == 0,
            "network.input_size must be a multiple of network.heatmap_size and of every size in network.coarser",
        )
        known = not isinstance(target.sigma, dict) or size in target.sigma
        yield known, f"target.sigma says nothing of maps of {size}"
        yield known and target.sigma_of(size) > 0, "target.sigma must be positive"
    yield all(a > b for a, b in itertools.pairwise(n.sizes)), "network.coarser must fall from size to size, below network.heatmap_size"
    yield n.frozen_stride == 0 or n.weights is not None, "network.frozen_stride needs network.weights to keep"
    yield n.head in ("heatmap", "distance"), "network.head must be heatmap or distance"
    yield target.kind in ("unbiased", "biased"), "target.kind must be unbiased or biased"
    yield target.grid in ("corner", "half_pixel"), "target.grid must be corner or half_pixel"


def _data_checks(recipe: Recipe) -> Iterator[tuple[bool, str]]:
    d = recipe.data
    yield d.views >= 1, "data.views must be at least 1"
    yield 0 <= d.original_share <= 1, "data.original_share must be between 0 and 1"
    yield d.boxes in ("landmarks", "annotated"), "data.boxes must be landmarks or annotated"
    yield d.on_problem in ("skip", "refuse"), "data.on_problem must be skip or refuse"
    yield d.dataset is not None or recipe.scheme == "300w", "rendered views have the 68 points of the scheme 300w; name a data.dataset"
    a = asdict(recipe.augment)
    scale = a.pop("scale")
    yield len(scale) == 2 and 0 < scale[0] <= scale[1], "augment.scale must be two positive numbers, the smaller first"
    a.pop("borders")
    yield min(a.pop("shift"), a.pop("angle"), a.pop("angle_limit")) >= 0, "augment.shift, angle and angle_limit must not be negative"
    for name, value in a.items():
        yield 0 <= value <= 1, f"augment.{name} must be between 0 and 1"


def _training_checks(recipe: Recipe) -> Iterator[tuple[bool, str]]:
    t = recipe.training
    yield min(t.epochs, t.batch, t.threads) >= 1, "training.epochs, batch and threads must be at least 1"
    yield min(t.workers, t.patience, t.warmup_steps) >= 0, "training.workers, patience and warmup_steps must not be negative"
    yield t.samples >= 0, "training.samples must not be negative"
    yield t.samples > 0 or recipe.data.dataset is not None, "training.samples must be at least 1 for rendered views"
    yield t.learning_rate > 0, "training.learning_rate must be positive"
    yield min(t.weight_decay, t.clip, t.warmup) >= 0, "training.weight_decay, clip and warmup must not be negative"
    yield t.precision in PRECISIONS, f"training.precision must be one of {', '.join(PRECISIONS)}"
    yield t.optimiser in ("adamw", "adam"), "training.optimiser must be adamw or adam"
    yield t.schedule in ("cosine", "step"), "training.schedule must be cosine or step"
    yield (t.map_loss == "distance") <= (recipe.network.head == "distance"), "training.map_loss distance needs network.head distance"
    hrnet = recipe.network.backbone == "hrnetv2_w18" or recipe.network.head == "distance"
    yield not (t.map_loss == "divergence" and hrnet), "training.map_loss divergence is for softmax maps, which this network has not"
    yield t.map_loss in (None, *MAP_LOSSES), f"training.map_loss must be one of {', '.join(MAP_LOSSES)}"
    yield 0 < t.finest_share <= 1, "training.finest_share must be above 0 and at most 1"
    yield 0 <= t.ema < 1, "training.ema must be from 0 to below 1"
