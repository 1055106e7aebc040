"""The Lightning module: a landmark network, its losses and its optimiser."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from keyposs_trt.decode.torch_wls import wls
from keyposs_trt.metrics import nme, normaliser
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.losses import coordinate_loss, map_loss, squared_map_loss
from keyposs_trt.training.networks import HeatmapNet, build_network
from keyposs_trt.training.recipe import Recipe, recipe_from_dict

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LandmarkModule(pl.LightningModule):
    """Trains a ``LandmarkNet``.

    Args:
        recipe: a recipe as nested dicts, so that a checkpoint holds plain values only.
        pretrained: load the recipe's backbone weights; off when the weights come from a checkpoint.
    """

    def __init__(self, recipe: dict[str, Any], pretrained: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters("recipe")
        self.recipe: Recipe = recipe_from_dict(recipe)
        self.network = build_network(self.recipe, len(load_scheme(self.recipe.scheme)), pretrained)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1) * 255, persistent=False)
        self._nme: list[float] = []

    @property
    def stride(self) -> float:
        """Crop pixels per heatmap pixel."""
        return self.recipe.network.input_size / self.recipe.network.heatmap_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, L, S, S] of uint8 RGB images [N, 3, I, I]."""
        return self.network((images.float() - self.mean) / self.std)

    def to_map(self, points: torch.Tensor) -> torch.Tensor:
        """Crop pixels to heatmap pixels on the recipe's sampling grid."""
        shift = 0.5 if self.recipe.target.grid == "half_pixel" else 0.0
        return (points + shift) / self.stride - shift

    def to_crop(self, points: torch.Tensor) -> torch.Tensor:
        """Heatmap pixels to crop pixels on the recipe's sampling grid."""
        shift = 0.5 if self.recipe.target.grid == "half_pixel" else 0.0
        return (points + shift) * self.stride - shift

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        images, points = batch
        target, sigma = self.to_map(points), self.recipe.target.sigma
        logits = self(images)
        linear = isinstance(self.network, HeatmapNet)
        maps = (squared_map_loss if linear else map_loss)(logits, target, sigma).mean()
        decoded = wls(self.network.heatmaps(logits.float()), sigma=sigma).points
        coordinates = coordinate_loss(decoded, target, logits.shape[-1]).mean()
        loss = maps + self.recipe.training.coordinate_weight * coordinates
        self.log_dict({"loss": loss, "map_loss": maps, "coordinate_loss": coordinates}, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        images, points = batch
        decoded = self.to_crop(wls(self.network.heatmaps(self(images).float()), sigma=self.recipe.target.sigma).points)
        truth = points.cpu().numpy()
        self._nme += nme(decoded.cpu().numpy(), truth, normaliser(load_scheme(self.recipe.scheme), truth)).tolist()

    def on_validation_epoch_end(self) -> None:
        self.log("val_nme", 100 * float(np.mean(self._nme)), prog_bar=True)
        self._nme.clear()

    def configure_optimizers(self) -> Any:
        t = self.recipe.training
        decay = [p for p in self.parameters() if p.ndim > 1]
        rest = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": t.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=t.learning_rate)
        steps = math.ceil(t.samples / t.batch) * t.epochs
        warmup = max(1, round(t.warmup * steps))

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
