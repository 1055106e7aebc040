"""The Lightning module: a landmark network, its losses and its optimiser."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch

from keyposs_trt.decode.torch_wls import wls
from keyposs_trt.geometry import box_of_points
from keyposs_trt.metrics import BOX, nme, normaliser
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.losses import anchor_loss, coordinate_loss, gaussian_targets, likelihood_loss, map_loss
from keyposs_trt.training.networks import LandmarkNet, build_network
from keyposs_trt.training.networks.heatmap_net import DISTANCE
from keyposs_trt.training.qat.fake import FakeQuantisation, Plan
from keyposs_trt.training.qat.folding import fold_batch_norms
from keyposs_trt.training.recipe_file import recipe_from_dict

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from keyposs_trt.training.recipe import Recipe

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COVARIANCE_SCALE = 100.0  # to begin with: errors on faces are about ten times the scatter of the fit
UNIT = 32  # losses on points are in 1/32 of the crop's side, whatever the size of the maps

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _mean_over_processes(count: torch.Tensor) -> torch.Tensor:
    """DDP means the gradients of all processes: with the mean number of labelled points they are those of one process with all faces."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return count
    total = count.float()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


class LandmarkModule(pl.LightningModule):
    """Trains a network on batches of crops [N, 3, I, I] uint8 RGB, points [N, L, 2] crop pixels and labelled [N, L] bool.

    Args:
        recipe: a recipe as nested dicts, so that a checkpoint holds plain values only.
        pretrained: load the recipe's backbone weights; off when the weights come from a checkpoint.
        qat: where the network is rounded as INT8 rounds it, as plain values (``qat.fake.Plan``); None for nowhere. Its batch norms are
            then folded.
    """

    def __init__(self, recipe: dict[str, Any], pretrained: bool = True, qat: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.save_hyperparameters("recipe", *(() if qat is None else ("qat",)))
        self.recipe: Recipe = recipe_from_dict(recipe)
        self.network = build_network(self.recipe, len(load_scheme(self.recipe.scheme)), pretrained)
        self.fake: FakeQuantisation | None = None
        if qat is not None:
            fold_batch_norms(self.network, self.recipe.network.input_size)
            self.fake = FakeQuantisation(Plan.from_dict(qat))
        t = self.recipe.training
        self._map_loss = t.map_loss or self._suitable_map_loss()
        # The decoder knows the scatter of its fit; what that says of errors on faces is learnt with the likelihood, one factor a size.
        sizes = self.recipe.network.sizes if t.likelihood_weight else ()
        self.covariance_scale = torch.nn.ParameterDict({str(s): torch.tensor(math.log(COVARIANCE_SCALE)) for s in sizes})
        # By size of the maps, measured after training: see training.uncertainty.
        self.measured_scales: dict[int, float] = {}
        self.lost_scores: dict[int, float] = {}
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1) * 255, persistent=False)
        self._sums: dict[int, list[float]] = {}  # by size of the maps: sum of NME and number of faces

    def covariance_scale_of(self, size: int) -> float:
        """What the decoder's covariance is multiplied by: measured on validation faces, else learnt, else 1."""
        learnt = math.exp(self.covariance_scale[str(size)].item()) if str(size) in self.covariance_scale else 1.0
        return self.measured_scales.get(size, learnt)

    def _suitable_map_loss(self) -> str:
        if self.recipe.network.head == DISTANCE:
            return DISTANCE
        return "divergence" if isinstance(self.network, LandmarkNet) else "mse"

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 3, I, I] float32, by ImageNet's mean and deviation, of uint8 images."""
        # Depthwise convolutions on the CPU are twice as fast with the channels last.
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> LandmarkModule:
        """As of any module; but for INT8, batch norms that could not be folded keep their statistics, which the engine has as constants."""
        super().train(mode)
        if self.fake is not None:
            for layer in self.network.modules():
                if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                    layer.eval()
        return self

    def rounding(self) -> AbstractContextManager[None]:
        """While it is entered, the network computes as its INT8 model does, if it is trained for that."""
        return nullcontext() if self.fake is None else self.fake.within(self.network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, L, S, S] of uint8 RGB images [N, 3, I, I], of the finest maps."""
        with self.rounding():
            return self.network(self.normalised(images))

    def all_logits(self, images: torch.Tensor, finest_share: float = 1.0) -> dict[int, torch.Tensor]:
        """Size of the maps -> logits, see ``LandmarkNet.all_logits``."""
        if isinstance(self.network, LandmarkNet):
            with self.rounding():
                return self.network.all_logits(self.normalised(images), finest_share)
        return {self.recipe.network.heatmap_size: self(images)}

    def to_map(self, points: torch.Tensor, size: int) -> torch.Tensor:
        """Crop pixels to heatmap pixels of maps of that size, on the recipe's sampling grid."""
        shift = self._shift
        return (points + shift) * (size / self.recipe.network.input_size) - shift

    def to_crop(self, points: torch.Tensor, size: int) -> torch.Tensor:
        """Heatmap pixels to crop pixels on the recipe's sampling grid."""
        shift = self._shift
        return (points + shift) * (self.recipe.network.input_size / size) - shift

    @property
    def _shift(self) -> float:
        return 0.5 if self.recipe.target.grid == "half_pixel" else 0.0

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        images, points, labelled = batch
        losses = [self._losses(size, *v) for size, v in self._outputs(images, points, labelled, self.recipe.training.finest_share)]
        means = {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}
        t = self.recipe.training
        begun = t.likelihood_weight > 0 and self.global_step >= t.likelihood_from * self.trainer.estimated_stepping_batches
        weights = {
            "map_loss": t.map_weight,
            "coordinate_loss": t.coordinate_weight,
            "likelihood_loss": t.likelihood_weight * begun,  # 0 rather than left out: DDP wants every parameter in every step
            "anchor_loss": t.anchor_weight,
        }
        loss = torch.stack([weights[k] * v for k, v in means.items()]).sum()
        self.log_dict({"loss": loss, **means}, prog_bar=True)
        return loss

    def _outputs(self, images: torch.Tensor, points: torch.Tensor, labelled: torch.Tensor, share: float = 1.0) -> Any:
        for size, logits in self.all_logits(images, share).items():
            some = len(logits)
            yield size, (logits, self.to_map(points[:some], size), labelled[:some])

    def _losses(self, size: int, logits: torch.Tensor, points: torch.Tensor, labelled: torch.Tensor) -> dict[str, torch.Tensor]:
        """Means over the labelled points of the maps of one size."""
        t, target = self.recipe.training, self.recipe.target
        sigma = target.sigma_of(size)
        count = _mean_over_processes(labelled.sum()).clamp_min(1)

        def mean(loss: torch.Tensor) -> torch.Tensor:
            return torch.where(labelled, loss, 0.0).sum() / count

        maps = self.network.heatmaps(logits.float())
        goal = gaussian_targets(points, size, sigma, target.kind)
        out = {"map_loss": mean(map_loss(self._map_loss, logits, maps, goal, points, sigma, t.huber_delta))}
        if t.anchor_weight:
            out["anchor_loss"] = mean(anchor_loss(maps, points, sigma))
        if t.coordinate_weight or t.likelihood_weight:
            decoded = wls(maps, sigma=sigma)
            unit = size / UNIT
            if t.coordinate_weight:
                out["coordinate_loss"] = mean(coordinate_loss(decoded.points, points, size, unit=unit))
            if t.likelihood_weight:
                covariance = decoded.covariance * self.covariance_scale[str(size)].exp()
                out["likelihood_loss"] = mean(likelihood_loss(decoded.points, covariance, points, size, unit=unit))
        return out

    def validation_step(self, batch: Batch, _: int) -> None:
        images, points, labelled = batch
        truth, seen = points.cpu().numpy(), labelled.cpu().numpy()
        norm = self._norm(truth, seen)
        use = np.isfinite(norm)
        for size, logits in self.all_logits(images).items():
            decoded = wls(self.network.heatmaps(logits.float()), sigma=self.recipe.target.sigma_of(size)).points
            found = self.to_crop(decoded, size).cpu().numpy()
            sums = self._sums.setdefault(size, [0.0, 0.0])
            if use.any():
                sums[0] += float(nme(found[use], truth[use], norm[use], seen[use]).sum())
                sums[1] += float(use.sum())

    def _norm(self, truth: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """[F] crop pixels; NaN where the points of the norm are not labelled, or are one."""
        scheme = load_scheme(self.recipe.scheme)
        if scheme.norm_name == BOX:
            boxes = np.stack([box_of_points(t[s]) for t, s in zip(truth, seen, strict=True)])
            norm, known = normaliser(scheme, truth, boxes=boxes), np.ones(len(truth), bool)
        else:
            norm = normaliser(scheme, truth)
            known = seen[:, [i for group in scheme.norms[scheme.norm_name] for i in group]].all(1)
        return np.where(known & (norm > 0), norm, np.nan)

    def on_validation_epoch_end(self) -> None:
        """The mean over all faces of all processes, each of which counted its own."""
        sizes = self.recipe.network.sizes
        sums = torch.tensor([self._sums.get(size, [0.0, 0.0]) for size in sizes], device=self.device)
        self._sums.clear()
        total = self.all_gather(sums).reshape(-1, len(sizes), 2).sum(0)  # pyright: ignore (a tensor, as given)
        means = {size: 100 * float(s / n) for size, (s, n) in zip(sizes, total, strict=True)}
        self.log("val_nme", float(np.mean(list(means.values()))), prog_bar=True, sync_dist=True)
        if len(means) > 1:
            self.log_dict({f"val_nme_{size}": value for size, value in means.items()}, sync_dist=True)

    def configure_optimizers(self) -> Any:
        t = self.recipe.training
        decay = [p for p in self.parameters() if p.ndim > 1]
        rest = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": t.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        kind = torch.optim.AdamW if t.optimiser == "adamw" else torch.optim.Adam
        optimiser = kind(groups, lr=t.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = t.warmup_steps or max(1, round(t.warmup * steps))
        drops = [m * steps / t.epochs for m in t.milestones]

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            if t.schedule == "step":
                return 0.1 ** sum(step >= drop for drop in drops)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
