"""keyposs-trt export: a checkpoint becomes an ONNX model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import BackendError

if TYPE_CHECKING:
    import argparse

HELP = "export a checkpoint to ONNX"
DECODERS = {"onnx": "wls", "none": "none"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of 'keyposs-trt train', such as runs/face68-32/last.ckpt")
    parser.add_argument("-o", "--out", type=Path, help="the ONNX file (default: the checkpoint's folder and the model's name)")
    parser.add_argument(
        "--decoder", choices=DECODERS, default="onnx", help="onnx: landmarks, scores and covariance; none: heatmaps (default: onnx)"
    )
    parser.add_argument("--weights", choices=("fp16", "fp32"), default="fp16", help="how weights are stored; FP16 halves the file")


def run(args: argparse.Namespace) -> int:
    try:
        from keyposs_trt.training.export import export_checkpoint
    except ModuleNotFoundError as e:
        from keyposs_trt.doctor import TRAINING_PACKAGES

        raise BackendError(f"Exporting needs the package '{e.name}'; install it with: pip install {TRAINING_PACKAGES}") from e
    out = export_checkpoint(args.checkpoint, args.out, DECODERS[args.decoder], args.weights == "fp16")
    sys.stdout.write(f"{out} ({out.stat().st_size / 1e6:.2f} MB)\nNext: keyposs-trt run SOURCE --model {out}\n")
    return 0
