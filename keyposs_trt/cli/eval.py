"""``keyposs-trt eval``: how accurate a model is on an annotated data set."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from keyposs_trt.cli.arguments import box_scale, whole_number
from keyposs_trt.cli.output import distinct_outputs, write_text
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from keyposs_trt.evaluation.models import Evaluation, Setup

HELP = "measure the accuracy of a model on an annotated data set"

_MANUAL = """\
NME is the mean distance of the labelled points over the norm; FR@t the share of faces
with an NME above t; AUC@0.1 the area under the cumulative error curve up to 0.1. They
are given for all faces, for each subset of the data set and for each part of the face.

decoders: model (the model's own), wls, wls_known, gn, lls, popos, argmax, shift, dark,
dark_border, soft_argmax. All but the first read the heatmaps of an ONNX model.

Several models, or several heatmap sizes of a checkpoint, are measured one after the
other, and their NME is put side by side in a table of decoders and heatmap sizes.

exit code: 0 if faces were measured; 1 if none could be, or the model does not run;
           2 if the command makes no sense
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``eval``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    add = parser.add_argument
    add("models", metavar="MODEL", nargs="+", help="a .onnx, .plan or .engine file, a .ckpt of train, or a shipped model such as face68-32")
    add("--data", metavar="PATH", required=True, help="the data set's folder, or an annotation file (see keyposs-trt dataset --help)")
    add("--format", metavar="F", help="wflw, 300w, cofw, aflw, coco-wholebody-face, lapa, mmpose, views or teacher (default: found out)")
    add("--scheme", metavar="S", help="compare the points of this landmark scheme (default: the model's, or else the data set's)")
    add("--split", metavar="S", help="one part of the data set alone, such as test (default: all)")
    add("--decoder", metavar="NAME", nargs="+", default=["model"], help="ways to decode, a row each (default: model)")
    add("--heatmap", metavar="S", nargs="+", type=whole_number, help="heatmap sizes of a checkpoint that has several (default: the finest)")
    add("--norm", metavar="NAME", nargs="+", help="inter_ocular, inter_pupil, box (default: that of the scheme's published figures)")
    add(
        "--boxes",
        choices=("landmarks", "annotated", "detector"),
        default="landmarks",
        help="what faces are cropped by (default: landmarks)",
    )
    scale = "make the boxes X times as large, before the model's margin (default: 1)"
    add("--box-scale", metavar="X", type=box_scale, default=1.0, help=scale)
    add("--detector", metavar="NAME", default="blazeface", help="for --boxes detector (default: blazeface)")
    add("--sigma", type=float, metavar="PIXELS", help="of a published checkpoint (.pth): sigma of its targets in heatmap pixels, mostly 2")
    add("--grid", choices=("corner", "half_pixel"), help="of a published checkpoint: where heatmap pixels lie, mostly corner")
    add("--flip-test", action="store_true", help="average the points with those found in the mirror image")
    add("--ced", metavar="FILE", help="plot the cumulative error distribution: .png, .pdf or .svg")
    add("--worst", metavar="FILE", help="draw the worst faces by the first decoder and norm: .jpg, .png, ...")
    add("--table", metavar="FILE", help="write the NME by decoder and heatmap size as a Markdown table")
    add("--json", metavar="FILE|-", help="write everything as JSON, each face too; - is standard output, and nothing else is printed there")
    add("--backend", choices=("auto", "onnxruntime", "tensorrt", "tensorrt-rtx"), default="auto", help="runtime (default: auto)")
    add("--threads", type=whole_number, metavar="N", help="processor threads of each process (default: the runtime's choice)")
    add("--processes", type=whole_number, metavar="N", default=1, help="share the faces out to N processes (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Measures, prints, draws."""
    from tqdm import tqdm

    from keyposs_trt.datasets import open_dataset
    from keyposs_trt.evaluation.models import evaluate_models
    from keyposs_trt.evaluation.table import lines_of, table_of, tree_of
    from keyposs_trt.quiet import quiet_opencv

    if not args.debug:
        quiet_opencv()
    _check_names(args)
    _check_outputs(args)
    data = partial(open_dataset, args.data, args.format, args.scheme, args.split)
    bar = partial(tqdm, unit="face", leave=False, disable=None)
    with TemporaryDirectory() as folder:
        found = evaluate_models(_setups(args, Path(folder)), data, args.norm, args.scheme is not None, args.processes, bar)
    _draw(args, found[0])
    if args.table:
        write_text(table_of(found).to_markdown(), args.table)
    if args.json:
        write_text(json.dumps(tree_of(found), indent=2, allow_nan=False) + "\n", args.json)
    if args.json != "-":
        for line in lines_of(found):
            sys.stdout.write(line + "\n")
    return 0


def _setups(args: argparse.Namespace, folder: Path) -> list[Setup]:
    """One for each model, and of checkpoints one for each size, which are exported to the folder."""
    from keyposs_trt.cli.checkpoints import export_sizes, export_weights, is_checkpoint, is_published
    from keyposs_trt.evaluation.models import Setup

    common = (tuple(args.decoder), args.backend, args.threads, args.boxes, args.box_scale, args.detector, args.flip_test)
    if not any(map(is_published, args.models)) and (args.sigma is not None or args.grid is not None):
        raise UsageError("Leave out --sigma and --grid, which tell of published checkpoints; these models say it themselves.")
    setups = []
    for number, model in enumerate(args.models):
        if is_checkpoint(model):
            setups += [Setup(model, str(file), *common) for file in export_sizes(model, args.heatmap, folder / str(number))]
        elif is_published(model):
            file = export_weights(model, args.sigma, args.grid, folder / str(number))
            setups.append(Setup(model, str(file), *common, tuple(args.heatmap or ())))
        else:
            setups.append(Setup(model, model, *common, tuple(args.heatmap or ())))
    return setups


def _check_names(args: argparse.Namespace) -> None:
    """Refuses what is named twice, and pictures of several models."""
    for what, names in (("model", args.models), ("heatmap size", args.heatmap or [])):
        again = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if again is not None:
            raise UsageError(f"The {what} '{again}' is named twice; name it once.")
    picture = "--ced" if args.ced else "--worst" if args.worst else None
    if picture and (len(args.models) > 1 or len(args.heatmap or []) > 1):
        raise UsageError(f"{picture} draws one model of one heatmap size; evaluate them one by one.")


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuses outputs that cannot be, before minutes of work."""
    from keyposs_trt.images import WRITABLE_SUFFIXES
    from keyposs_trt.plots import check_plot

    if args.ced:
        check_plot(args.ced, "--ced")
    if args.worst and Path(args.worst).suffix.lower() not in WRITABLE_SUFFIXES:
        raise UsageError(f"--worst cannot write '{args.worst}': sheets are {', '.join(sorted(WRITABLE_SUFFIXES))}; choose one of these.")
    outputs = {"--ced": args.ced, "--worst": args.worst, "--table": args.table, "--json": args.json}
    list(distinct_outputs(outputs, {**dict.fromkeys(args.models, "a model"), args.data: "the data set"}))


def _draw(args: argparse.Namespace, found: Evaluation) -> None:
    import numpy as np

    from keyposs_trt.evaluation.ced import plot_ced
    from keyposs_trt.evaluation.worst import draw_worst
    from keyposs_trt.images import write_image

    located, figures = found.located, found.figures
    norm = figures.norms[0]
    if args.ced:
        use = np.isfinite(figures.lengths[norm])
        plot_ced(args.ced, {name: errors[norm][use] for name, errors in figures.errors.items()}, norm)
    if args.worst:
        write_image(args.worst, draw_worst(located, figures.errors[located.decoders[0]][norm]))
