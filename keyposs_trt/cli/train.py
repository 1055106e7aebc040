"""keyposs-trt train: trains a recipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    import argparse

HELP = "train a model from a recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a YAML file, such as training/recipes/face68.yaml")
    parser.add_argument("-o", "--out", type=Path, help="folder for checkpoints and logs (default: runs/NAME)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe key: --set training.epochs=3")
    parser.add_argument("--heatmap", type=int, metavar="S", help="size of the maps, of a recipe that trains one size: its name gets -S")
    parser.add_argument(
        "--qat",
        type=Path,
        metavar="CHECKPOINT",
        help="train the network of this checkpoint on for INT8: a tenth of the recipe's epochs at a hundredth of its learning rate, "
        "unless --set says otherwise (default folder: runs/NAME-qat)",
    )
    parser.add_argument("--no-resume", action="store_true", help="start over even if the folder holds a run that was cut off")


def run(args: argparse.Namespace) -> int:
    try:
        from keyposs_trt.training.qat.begin import qat_overrides
        from keyposs_trt.training.recipe_file import load_recipe, with_heatmap
        from keyposs_trt.training.train import run_training

        recipe = load_recipe(args.recipe, args.set)
        if args.qat is not None:
            recipe = load_recipe(args.recipe, [*qat_overrides(load_recipe(args.recipe)), *args.set])
        if args.heatmap is not None:
            recipe = with_heatmap(recipe, args.heatmap)
    except ModuleNotFoundError as e:
        from keyposs_trt.doctor import TRAINING_PACKAGES

        raise BackendError(f"Training needs the package '{e.name}'; install it with: pip install {TRAINING_PACKAGES}") from e
    checkpoint = run_training(recipe, args.out or Path("runs") / recipe.name, resume=not args.no_resume, qat=args.qat)
    if int(os.environ.get("RANK", "0")) == 0:  # torchrun's word for the first of several processes
        sys.stdout.write(f"{checkpoint}\nNext: keyposs-trt export {checkpoint}\n")
    return 0
