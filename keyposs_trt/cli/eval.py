"""``keyposs-trt eval``: how accurate a model is on an annotated data set."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.cli.arguments import whole_number
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from keyposs_trt.datasets import Dataset
    from keyposs_trt.evaluation.boxes import BoxSource
    from keyposs_trt.evaluation.figures import Figures
    from keyposs_trt.evaluation.located import Located

HELP = "measure the accuracy of a model on an annotated data set"

_MANUAL = """\
NME is the mean distance of the labelled points over the norm; FR@t the share of faces
with an NME above t; AUC@0.1 the area under the cumulative error curve up to 0.1. They
are given for all faces, for each subset of the data set and for each part of the face.

decoders: model (the model's own), wls, wls_known, gn, lls, popos, argmax, shift, dark,
dark_border, soft_argmax. All but the first read the heatmaps of an ONNX model.

exit code: 0 if faces were measured; 1 if none could be, or the model does not run;
           2 if the command makes no sense
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``eval``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    add = parser.add_argument
    add("model", metavar="MODEL", help="a .onnx, .plan or .engine file, or the short name of a shipped model such as face68-32")
    add("--data", metavar="PATH", required=True, help="the data set's folder, or an annotation file (see keyposs-trt dataset --help)")
    add("--format", metavar="F", help="wflw, 300w, cofw, aflw, coco-wholebody-face, lapa or mmpose (default: found out)")
    add("--scheme", metavar="S", help="compare the points of this landmark scheme (default: the model's, or else the data set's)")
    add("--split", metavar="S", help="one part of the data set alone, such as test (default: all)")
    add("--decoder", metavar="NAME", nargs="+", default=["model"], help="ways to decode, a row each (default: model)")
    add("--norm", metavar="NAME", nargs="+", help="inter_ocular, inter_pupil, box (default: that of the scheme's published figures)")
    add(
        "--boxes",
        choices=("landmarks", "annotated", "detector"),
        default="landmarks",
        help="what faces are cropped by (default: landmarks)",
    )
    add(
        "--box-scale", metavar="X", type=_scale, default=1.0, help="make the boxes X times as large, before the model's margin (default: 1)"
    )
    add("--detector", metavar="NAME", default="blazeface", help="for --boxes detector (default: blazeface)")
    add("--flip-test", action="store_true", help="average the points with those found in the mirror image")
    add("--ced", metavar="FILE", help="plot the cumulative error distribution: .png, .pdf or .svg")
    add("--worst", metavar="FILE", help="draw the worst faces by the first decoder and norm: .jpg, .png, ...")
    add("--json", metavar="FILE|-", help="write everything as JSON, each face too; - is standard output, and nothing else is printed there")
    add("--backend", choices=("auto", "onnxruntime", "tensorrt", "tensorrt-rtx"), default="auto", help="runtime (default: auto)")
    add("--threads", type=whole_number, metavar="N", help="processor threads (default: the runtime's choice)")


def run(args: argparse.Namespace) -> int:
    """Measures, prints, draws."""
    from tqdm import tqdm

    from keyposs_trt.evaluation.figures import check_norms, figures_of
    from keyposs_trt.evaluation.located import in_common_scheme, locate_faces
    from keyposs_trt.evaluation.locator import open_locator
    from keyposs_trt.evaluation.record import to_lines, to_record
    from keyposs_trt.quiet import quiet_opencv

    if not args.debug:
        quiet_opencv()
    _check_outputs(args)
    with open_locator(args.model, args.decoder, args.backend, args.threads) as locator:
        dataset: Dataset = _open(args)
        if args.scheme is None:
            dataset = in_common_scheme(dataset, locator.scheme.name)
        check_norms(dataset.scheme, args.norm)
        boxes = _boxes(args)
        bar = partial(tqdm, unit="face", leave=False, disable=None)
        located = locate_faces(locator, dataset, boxes, args.flip_test, bar)
        figures = figures_of(located, args.norm)
        record = to_record(locator, located, figures, boxes, args.flip_test)
    _draw(args, located, figures)
    if args.json:
        _write_json(record, args.json)
    if args.json != "-":
        for line in to_lines(record, figures):
            sys.stdout.write(line + "\n")
    return 0


def _open(args: argparse.Namespace) -> Dataset:
    from keyposs_trt.datasets import open_dataset

    return open_dataset(args.data, args.format, args.scheme, args.split)


def _boxes(args: argparse.Namespace) -> BoxSource:
    from keyposs_trt.detection import load_detector
    from keyposs_trt.evaluation.boxes import DETECTOR, BoxSource

    detector = load_detector(args.detector, threads=args.threads) if args.boxes == DETECTOR else None
    return BoxSource(args.boxes, args.box_scale, detector)


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuses outputs that cannot be, before minutes of work."""
    from keyposs_trt.evaluation.ced import check_plot
    from keyposs_trt.images import WRITABLE_SUFFIXES

    if args.ced:
        check_plot(args.ced)
    if args.worst and Path(args.worst).suffix.lower() not in WRITABLE_SUFFIXES:
        raise UsageError(f"--worst cannot write '{args.worst}': sheets are {', '.join(sorted(WRITABLE_SUFFIXES))}; choose one of these.")
    taken = {Path(args.model).resolve(): "the model", Path(args.data).resolve(): "the data set"}
    for option, name in (("--ced", args.ced), ("--worst", args.worst), ("--json", args.json)):
        if not name or name == "-":
            continue
        path = Path(name).resolve()
        if path in taken:
            raise UsageError(f"'{name}' of {option} is {taken[path]} too; give another file.")
        taken[path] = f"that of {option}"


def _draw(args: argparse.Namespace, located: Located, figures: Figures) -> None:
    import numpy as np

    from keyposs_trt.evaluation.ced import plot_ced
    from keyposs_trt.evaluation.worst import draw_worst
    from keyposs_trt.images import write_image

    norm = figures.norms[0]
    if args.ced:
        use = np.isfinite(figures.lengths[norm])
        plot_ced(args.ced, {name: errors[norm][use] for name, errors in figures.errors.items()}, norm)
    if args.worst:
        write_image(args.worst, draw_worst(located, figures.errors[located.decoders[0]][norm]))


def _write_json(record: dict[str, Any], target: str) -> None:
    from keyposs_trt.files import atomic_path

    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 10:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0.1 to 10")
    return value
