"""From a trained checkpoint to a module that goes on with the rounding of INT8: the recipe, the places, and the ranges."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from keyposs_trt.calibration.histogram import Histogram
from keyposs_trt.calibration.methods import range_of
from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.training.checkpoint import load_checkpoint
from keyposs_trt.training.module import LandmarkModule
from keyposs_trt.training.qat.calls import Calls
from keyposs_trt.training.qat.fake import input_name
from keyposs_trt.training.qat.folding import fold_batch_norms
from keyposs_trt.training.qat.places import plan_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from keyposs_trt.training.recipe import Recipe

SUFFIX = "-qat"
METHOD = "mse"
CROPS = 512  # that the ranges are measured on
_BATCH = 16
# Of Wu et al. 2020 (arXiv 2004.09602): a tenth of the first training, beginning with a hundredth of its learning rate, falling to zero.
_EPOCHS, _RATE = 0.1, 0.01


def qat_overrides(recipe: Recipe) -> list[str]:
    """What is other in a recipe whose network is trained on for INT8; as ``load_recipe`` takes it, so that a user's own come after it.

    A tenth of the epochs at a hundredth of the learning rate, all layers, every loss from the beginning.
    """
    t = recipe.training
    return [
        f"name={recipe.name}{SUFFIX}",
        f"training.epochs={max(1, round(_EPOCHS * t.epochs))}",
        f"training.learning_rate={_RATE * t.learning_rate:.6g}",
        "training.schedule=cosine",
        "training.warmup_steps=0",
        "training.likelihood_from=0",
        "network.frozen_stride=0",
    ]


def begin(start: Path, recipe: Recipe) -> LandmarkModule:
    """The network of a checkpoint, batch norms folded, to be rounded where its exported models are; its ranges are not yet measured.

    Args:
        start: a checkpoint of ``keyposs-trt train``.
        recipe: to go on with: the checkpoint's in network, targets and scheme.

    Raises:
        ModelError: the checkpoint cannot be read.
        UsageError: it does not fit the recipe, or its network cannot be trained for INT8.
    """
    trained = load_checkpoint(start)
    _check_fit(trained, recipe, start)
    module = LandmarkModule(recipe.to_dict(), pretrained=False)
    module.network.load_state_dict(trained.network.state_dict())
    fold_batch_norms(module.network, recipe.network.input_size)
    quantised = LandmarkModule(recipe.to_dict(), pretrained=False, qat=plan_of(module, digest_of(start)).to_dict())
    quantised.network.load_state_dict(module.network.state_dict())
    for size, value in trained.covariance_scale.items():
        if size in quantised.covariance_scale:
            quantised.covariance_scale[size].data.copy_(value.data)
    return quantised


def resumed(last: Path, recipe: Recipe, start: Path) -> LandmarkModule:
    """A module as that of a run that was cut off, for its weights to be loaded into.

    Raises:
        DataError: the run began with another checkpoint.
    """
    plan: dict[str, Any] = torch.load(last, map_location="cpu", weights_only=True)["hyper_parameters"]["qat"]
    if start.exists() and plan["start"] != digest_of(start):
        raise DataError(
            f"'{last}' began with another checkpoint than '{start}'; choose another folder with -o, or start over with --no-resume."
        )
    return LandmarkModule(recipe.to_dict(), pretrained=False, qat=plan)


def calibrate(module: LandmarkModule, faces: Any) -> str:
    """Measures the ranges of a module on the first ``CROPS`` training crops; they stay as they are while the weights learn.

    The module is in floating point meanwhile, as in any calibration.

    Args:
        module: of ``begin``.
        faces: training data set of crops, points and labelled.

    Returns:
        What was measured, in words.

    Raises:
        DataError: the network gives values that are no numbers, or nothing but zeros.
    """
    assert module.fake is not None
    batches = DataLoader(faces, _BATCH, sampler=range(CROPS))
    histograms = _observed(module, (images for images, _, _ in batches))
    ranges = [0.0] * module.fake.plan.ranges
    for name, histogram in histograms.items():
        which = module.fake.plan.inputs[name]
        ranges[which] = max(ranges[which], range_of(histogram, METHOD))
    if not min(ranges) > 0:
        name = next(name for name, which in module.fake.plan.inputs.items() if not ranges[which] > 0)
        raise DataError(
            f"Before '{name}' the network of the checkpoint gives zeros alone on the training faces; train it longer, or again."
        )
    module.fake.ranges.copy_(torch.tensor(ranges))
    return f"INT8: {len(module.fake.plan.weights)} convolutions, ranges of {len(ranges)} tensors measured on {CROPS} crops ({METHOD})"


def _observed(module: LandmarkModule, batches: Iterable[torch.Tensor]) -> dict[str, Histogram]:
    """Input of a plan -> histogram; a tensor that several inputs have is counted at the first of them."""
    assert module.fake is not None
    histograms: dict[str, Histogram] = {}
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def observe(operator: str, number: int, x: torch.Tensor) -> torch.Tensor:
        name = input_name(operator, number)
        if name in module.fake.plan.inputs and (id(x), x._version) not in seen:  # pyright: ignore[reportOptionalMemberAccess]
            seen[id(x), x._version] = x
            histograms.setdefault(name, Histogram()).add(x.float().numpy(), name)
        return x

    network, training = module.network, module.training
    module.eval()
    with torch.no_grad():
        for images in batches:
            seen.clear()
            with Calls(network, observe, lambda _name, w, _axis: w):
                (getattr(network, "all_logits", None) or network)(module.normalised(images))
    module.train(training)
    return histograms


def digest_of(checkpoint: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def _check_fit(trained: LandmarkModule, recipe: Recipe, start: Path) -> None:
    old = trained.recipe
    if trained.fake is not None:
        raise UsageError(f"'{start}' is trained for INT8 already; give the checkpoint that it began with, or go on in its folder with -o.")
    # What a network is: not which weights it had first, nor which parts were left as they are.
    same = replace(recipe.network, weights=old.network.weights, frozen_stride=old.network.frozen_stride)
    for part, a, b in (("scheme", old.scheme, recipe.scheme), ("network", old.network, same), ("target", old.target, recipe.target)):
        if a != b:
            raise UsageError(
                f"'{start}' does not fit the recipe '{recipe.name}': its {_difference(part, a, b)}; give the recipe it was trained with."
            )


def _difference(part: str, a: Any, b: Any) -> str:
    """Which key differs, and how."""
    if isinstance(a, str):
        return f"{part} is {a}, not {b}"
    key = next(k for k in vars(a) if getattr(a, k) != getattr(b, k))
    return f"{part}.{key} is {getattr(a, key)}, not {getattr(b, key)}"
