"""``keyposs-trt compare``: precisions, resolutions, decoders and runtimes side by side, with a verdict on each."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from keyposs_trt.cli.arguments import box_scale, whole_number
from keyposs_trt.cli.output import distinct_outputs, write_text
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyposs_trt.evaluation.candidates import Subject
    from keyposs_trt.evaluation.comparison import Comparison, Options

HELP = "compare precisions, resolutions, decoders and runtimes, with a verdict on each"

_MANUAL = """\
Every model is measured in every precision, for every runtime, by every decoder, on the
same faces. FP32 on ONNX Runtime is the reference: the others are judged by how much
their NME is above its own, and by how far their landmarks lie from its own.

An engine that does not run here is shown by its twin: the same network in the same
precision, computed by ONNX Runtime on the CPU with an engine's rounding. So accuracy is
real without a GPU. Time is measured on engines that run here, and of FP32 on the CPU.

limits: a number for all precisions, or PRECISION=NUMBER for one, in several words.
  --max-nme-increase   points of NME over FP32 (default: fp32=0.02 fp16=0.02 int8=0.1)
  --max-drift          99th percentile of the drift, in crop pixels (default: none)

examples:
  keyposs-trt compare face68 --heatmap 64 32 16 --data 300W --split full
      FP32 and FP16 of three sizes
  keyposs-trt compare face.onnx --precision fp16 int8 --data WFLW --html report.html
      INT8 by face.calibration.json beside the model, and a report to look at
  keyposs-trt compare engines/face_fp16_tensorrt.plan --data WFLW --latency
      an engine against the model it was built from

exit code: 0 if every row passes, 1 if one does not or could not be measured, 2 if the
           command makes no sense
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``compare``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    add = parser.add_argument
    model = "a shipped model or family (face68), a .onnx file, also one with Q/DQ nodes, a .plan or .engine with its manifest, or a .ckpt"
    add("models", metavar="MODEL", nargs="+", help=model)
    add("--data", metavar="PATH", required=True, help="the data set's folder, or an annotation file (see keyposs-trt dataset --help)")
    add("--format", metavar="F", help="of the data set (default: found out)")
    add("--split", metavar="S", help="one part of the data set alone, such as test (default: all)")
    add("--scheme", metavar="S", help="compare the points of this landmark scheme (default: the model's, or else the data set's)")
    add("--faces", metavar="N", type=whole_number, help="look at N faces, spread evenly over the data set (default: all)")
    add("--norm", metavar="NAME", help="inter_ocular, inter_pupil or box (default: that of the scheme's published figures)")
    boxes = "what faces are cropped by (default: landmarks)"
    add("--boxes", choices=("landmarks", "annotated", "detector"), default="landmarks", help=boxes)
    scale = "make the boxes X times as large, before the model's margin (default: 1)"
    add("--box-scale", metavar="X", type=box_scale, default=1.0, help=scale)
    add("--detector", metavar="NAME", default="blazeface", help="for --boxes detector (default: blazeface)")
    add("--precision", metavar="P", nargs="+", default=["fp32", "fp16"], help="fp32, fp16, int8 (default: fp32 fp16)")
    add("--heatmap", metavar="S", nargs="+", type=whole_number, help="heatmap sizes of a family of models, or of a checkpoint")
    add("--decoder", metavar="NAME", nargs="+", default=["model"], help="ways to decode, as of eval (default: model)")
    runtimes = "onnxruntime, tensorrt, tensorrt-rtx; engines are built where that is possible (default: onnxruntime)"
    add("--backend", metavar="B", nargs="+", default=["onnxruntime"], help=runtimes)
    ranges = "ranges for INT8, or folders of NAME.calibration.json (default: that beside the model)"
    add("--calibration", metavar="FILE", nargs="+", default=[], help=ranges)
    add(
        "--engines",
        metavar="DIR",
        help="keep engines that are built here, and build what is unchanged only once (default: throw them away)",
    )
    add("--max-nme-increase", metavar="LIMIT", nargs="+", default=[], help="points of NME that a precision may cost")
    add("--max-drift", metavar="LIMIT", nargs="+", default=[], help="crop pixels that 99 %% of the landmarks may move")
    add("--latency", action="store_true", help="time what runs here, and read a power sensor where there is one")
    add("--layers", action="store_true", help="the drift layer by layer (needs polygraphy)")
    add("--html", metavar="FILE", help="write a report with plots: one file that needs nothing else (needs matplotlib)")
    add("--table", metavar="FILE", help="write the table as Markdown")
    add("--json", metavar="FILE|-", help="write everything as JSON; - is standard output, and nothing else is printed there")
    add("--threads", type=whole_number, metavar="N", help="processor threads of each process (default: the runtime's choice)")
    add("--processes", type=whole_number, metavar="N", default=1, help="share the faces out to N processes (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Compares, prints and writes; 1 if a row does not pass."""
    from keyposs_trt.datasets import open_dataset
    from keyposs_trt.evaluation.compare import compare_models
    from keyposs_trt.quiet import quiet_opencv

    if not args.debug:
        quiet_opencv()
    options = _options(args)
    _check_outputs(args)
    data = partial(open_dataset, args.data, args.format, args.scheme, args.split)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        found = compare_models(_subjects(args, folder), data, options, _bar)
        _write_all(args, found)
    return 0 if found.met else 1


def _options(args: argparse.Namespace) -> Options:
    from keyposs_trt.evaluation.comparison import Options
    from keyposs_trt.evaluation.verdict import Gates, limits

    default = Gates()
    increase = {**default.increase, **limits(args.max_nme_increase, "--max-nme-increase")}
    return Options(
        precisions=tuple(args.precision),
        decoders=tuple(args.decoder),
        runtimes=tuple(args.backend),
        norm=args.norm,
        boxes=args.boxes,
        box_scale=args.box_scale,
        detector=args.detector,
        calibrations=tuple(map(Path, args.calibration)),
        gates=Gates(increase, limits(args.max_drift, "--max-drift")),
        faces=args.faces,
        latency=args.latency,
        layers=args.layers,
        engines=None if args.engines is None else Path(args.engines),
        threads=args.threads,
        processes=args.processes,
        as_it_is=args.scheme is not None,
    )


def _subjects(args: argparse.Namespace, folder: Path) -> list[Subject]:
    """The models; checkpoints are exported to the folder."""
    from keyposs_trt.cli.checkpoints import export_sizes, is_checkpoint, is_published
    from keyposs_trt.evaluation.candidates import Subject, subjects_of

    found: list[Subject] = []
    for number, model in enumerate(args.models):
        if model in args.models[:number]:
            raise UsageError(f"The model '{model}' is named twice; name it once.")
        if is_published(model):
            raise UsageError(f"'{model}' is a published checkpoint; make a model of it first: keyposs-trt export {model}")
        if is_checkpoint(model):
            files = export_sizes(model, args.heatmap, folder / str(number))
            found += [
                Subject(f"{model} ({size})" if args.heatmap else model, f) for f, size in zip(files, args.heatmap or [0], strict=True)
            ]
    # Together, so that a family that is named by two of its members is found out.
    return [*subjects_of([m for m in args.models if not is_checkpoint(m)], args.heatmap), *found]


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuses outputs that cannot be, before minutes of work."""
    from keyposs_trt.files import require_writable
    from keyposs_trt.plots import figure_class

    inputs = {**dict.fromkeys(args.models, "a model"), args.data: "the data set", **dict.fromkeys(args.calibration, "a calibration")}
    for _, path in distinct_outputs({"--html": args.html, "--table": args.table, "--json": args.json}, inputs):
        require_writable(path)
    if args.html:
        figure_class("--html")


def _bar(title: str, things: Iterable[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(things, desc=title, leave=False, disable=None)


def _write_all(args: argparse.Namespace, found: Comparison) -> None:
    from keyposs_trt.evaluation.compare_html import to_html
    from keyposs_trt.evaluation.compare_record import to_lines, to_markdown, to_tree

    if args.html:
        write_text(to_html(found), args.html)
    if args.table:
        write_text(to_markdown(found), args.table)
    if args.json:
        write_text(json.dumps(to_tree(found), indent=2, allow_nan=False) + "\n", args.json)
    if args.json != "-":
        sys.stdout.writelines(line + "\n" for line in to_lines(found))
