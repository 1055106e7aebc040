"""keyposs-trt export: a checkpoint, a model of ours or a heatmap network of another tool becomes an ONNX model with a decoder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError, UsageError

if TYPE_CHECKING:
    import onnx

HELP = "export a checkpoint to ONNX, or give an ONNX model another decoder"
DECODERS = {"onnx": "wls", "plugin": "plugin", "none": "none"}
_WEIGHT_FILES = (".pth", ".pt", ".safetensors")  # may be of any program

_MANUAL = """\
MODEL may be
  a checkpoint of 'keyposs-trt train', such as runs/face68/last.ckpt; of
      'train --qat' it becomes a Q/DQ model, INT8 on top of FP16;
  a published checkpoint of mmpose or KeyPosS (.pth, .pt, .safetensors): HRNetV2, ResNet
      or MobileNetV2 with a heatmap head; nothing in the file is run;
  an ONNX model of this toolkit, or the short name of a shipped one: its decoder is
      taken off and the one asked for put on;
  an ONNX heatmap network of any other tool, [N, 3, S, S] to [N, L, H, H]: it gets
      preprocessing and decoder, and is run once beside the original to compare.

decoders:
  onnx            standard operators, which run in every runtime
  plugin          one node for full TensorRT (Jetson, data-centre, desktop), which
                  needs the plugin's library; ONNX Runtime and TensorRT-RTX refuse it
  none            none: the model gives heatmaps

examples:
  keyposs-trt export runs/face68/last.ckpt -o face.onnx
  keyposs-trt export face68-32 --decoder plugin -o face68-32-plugin.onnx
  keyposs-trt export hrnet.onnx --sigma 2 --grid corner --scheme wflw -o hrnet-wflw.onnx
  keyposs-trt export hrnetv2_w18_wflw_256x256.pth --sigma 2 --grid corner --scheme wflw

exit code: 0 if the model was written, 1 if it could not be, 2 for a usage error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``export``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    add = parser.add_argument
    add("model", metavar="MODEL", help="a checkpoint, an ONNX file, or the short name of a shipped model")
    add("-o", "--out", type=Path, metavar="FILE", help="the ONNX file (default: named after the model, beside a checkpoint or else here)")
    add("--decoder", choices=DECODERS, default="onnx", help="what the model ends in (default: onnx)")
    add("--heatmap", type=int, metavar="S", help="size of the maps, where a run trained several (default: the finest)")
    add("--weights", choices=("fp16", "fp32"), help="how weights are stored (default: fp16 for a checkpoint, else as they are)")
    add("--radius", type=int, metavar="R", help="radius of the decoder's disc of anchors in heatmap pixels (default: the model's, or 5)")
    add("--prior", type=float, metavar="P", help="how strongly the decoder holds to sigma (default: the model's, or 0.015)")
    foreign = parser.add_argument_group("networks of other tools").add_argument
    told = [
        foreign("--sigma", type=float, metavar="PIXELS", help="sigma of the training targets in heatmap pixels; required"),
        foreign("--grid", choices=("corner", "half_pixel"), help="where heatmap pixels lie in the crop; required"),
        foreign("--scheme", metavar="NAME", help="landmark scheme: 300w, wflw, ... (default: the one with as many points)"),
        foreign("--heatmaps", metavar="TENSOR", help="the tensor of heatmaps (default: the only output that can be one)"),
        foreign("--input-size", type=int, metavar="S", help="side of the crops, where a graph leaves it free (checkpoints: 256)"),
        foreign(
            "--normalise", choices=("imagenet", "unit", "none"), help="pixels by ImageNet's mean, 0 to 1, or 0 to 255 (default: imagenet)"
        ),
        foreign("--mean", type=float, nargs=3, metavar="M", help="instead of --normalise: mean of each channel, of 0 to 255"),
        foreign("--std", type=float, nargs=3, metavar="D", help="instead of --normalise: deviation of each channel"),
        foreign("--channels", choices=("rgb", "bgr"), help="their order in training (default: rgb)"),
        foreign("--crop-scale", type=float, metavar="K", help="side of the training crops over the face box (default: 1.25)"),
    ]
    add("--name", help="short name of the model, for reports (default: the recipe's or the file's)")
    parser.set_defaults(foreign_options=[action.dest for action in told])


def run(args: argparse.Namespace) -> int:
    """Exports, and says what comes next."""
    from keyposs_trt.models import model_names

    is_onnx = args.model in model_names() or Path(args.model).suffix.lower() == ".onnx"
    out = _from_onnx(args) if is_onnx else _from_checkpoint(args)
    sys.stdout.write(f"{out} ({out.stat().st_size / 1e6:.2f} MB)\n")
    step = f"build {out} --backend tensorrt" if args.decoder == "plugin" else f"run SOURCE --model {out}"
    sys.stdout.write(f"Next: keyposs-trt {step}\n")
    return 0


def _from_checkpoint(args: argparse.Namespace) -> Path:
    path = Path(args.model)
    plain = path.suffix.lower() not in _WEIGHT_FILES
    if plain:
        _require_ours(args, "a checkpoint")
    try:
        from keyposs_trt.training.export import export_checkpoint
        from keyposs_trt.training.published import holds_recipe
        from keyposs_trt.training.published.export import export_published
    except ModuleNotFoundError as e:
        from keyposs_trt.doctor import TRAINING_PACKAGES

        raise BackendError(f"Exporting needs the package '{e.name}'; install it with: pip install {TRAINING_PACKAGES}") from e
    common = (path, args.out, DECODERS[args.decoder], args.weights != "fp32", _parameters(args))
    if plain or holds_recipe(path):
        _require_ours(args, "a checkpoint")
        return export_checkpoint(*common, heatmap=args.heatmap, name=args.name)
    if args.heatmap is not None:
        raise UsageError(
            f"Leave out --heatmap, which chooses from what 'keyposs-trt train' trained together; '{path}' has maps of one size."
        )
    if args.heatmaps is not None:
        raise UsageError(f"Leave out --heatmaps, which names a tensor of an ONNX graph; '{path}' is a checkpoint.")
    return export_published(*common, **_told(args))


def _from_onnx(args: argparse.Namespace) -> Path:
    from keyposs_trt.engine.onnx_file import load_graph
    from keyposs_trt.graph import change_decoder, expand_weights, save_model, store_weights_fp16
    from keyposs_trt.graph.contract import PREFIX
    from keyposs_trt.models import resolve

    path = resolve(args.model)
    if args.heatmap is not None:
        raise UsageError(f"Leave out --heatmap, which is for checkpoints of 'keyposs-trt train'; '{args.model}' has maps of one size.")
    model = load_graph(path)
    if any(p.key.startswith(PREFIX) for p in model.metadata_props):
        _require_ours(args, "a model of this toolkit")
        if args.name is not None:
            raise UsageError(f"Leave out --name; '{args.model}' is a model of this toolkit and keeps its own.")
        model = change_decoder(model, DECODERS[args.decoder], _parameters(args))
    else:
        model = _graft(args, model, path.stem)
    if args.weights is not None:
        model = (store_weights_fp16 if args.weights == "fp16" else expand_weights)(model)
    out = args.out or Path(f"{path.stem}-{args.decoder}.onnx")
    save_model(model, out)
    return out


def _graft(args: argparse.Namespace, model: onnx.ModelProto, stem: str) -> onnx.ModelProto:
    from keyposs_trt.graph import graft

    return graft(model, **{"name": stem, **_told(args)}, decoder=DECODERS[args.decoder], parameters=_parameters(args))


def _told(args: argparse.Namespace) -> dict[str, Any]:
    """What was said of a network of another tool, as ``graft`` takes it."""
    missing = [f"--{name}" for name in ("sigma", "grid") if getattr(args, name) is None]
    if missing:
        raise UsageError(f"'{args.model}' is a network of another tool; say how it was trained with {' and '.join(missing)} (see --help).")
    if (args.mean is None) != (args.std is None) or (args.mean is not None and args.normalise is not None):
        raise UsageError("Normalisation is either --normalise, or --mean and --std together.")
    normalise = args.normalise or "imagenet" if args.mean is None else (args.mean, args.std)
    given = {k: getattr(args, k) for k in args.foreign_options if k not in ("normalise", "mean", "std") and getattr(args, k) is not None}
    if args.name is not None:
        given["name"] = args.name
    return {**given, "normalise": normalise}


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Those of the decoder that were given."""
    return {name: getattr(args, name) for name in ("radius", "prior") if getattr(args, name) is not None}


def _require_ours(args: argparse.Namespace, what: str) -> None:
    """Refuses options that tell of a training: ``what`` was given, which says so itself."""
    given = [f"--{name.replace('_', '-')}" for name in args.foreign_options if getattr(args, name) is not None]
    if given:
        options = " ".join(given)
        raise UsageError(f"Leave out {options}, which tell of networks of other tools; '{args.model}' is {what} and says it itself.")
