"""``keyposs-trt calibrate``: INT8 ranges measured on face images, and the Q/DQ model made with them."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.cli.arguments import whole_number
from keyposs_trt.cli.output import distinct_outputs, write_text
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    import onnx

    from keyposs_trt.calibration.inputs import Source
    from keyposs_trt.graph.calibration_file import Calibration
    from keyposs_trt.graph.contract import ModelSpec

HELP = "measure INT8 ranges on face images and write the Q/DQ model"

_MANUAL = """\
This runs the float32 network on the CPU over face crops, cut as the runtime cuts
them, and writes two files: NAME_int8.onnx, with convolutions in INT8 by Q/DQ nodes
and everything else in FP16, and NAME.calibration.json, the ranges and where they
come from. Build the first with 'keyposs-trt build NAME_int8.onnx --precision int8'.

methods, from the histogram of each tensor's magnitudes:
  mse          least squared error of rounding and clipping together (the default)
  minmax       the largest value
  percentile   exceeded by 0.01 % of the values (--percentile)
  entropy      least Kullback-Leibler divergence, as TensorRT's own calibration

A run that is cut off goes on where it was when the same command is given again.

examples:
  keyposs-trt calibrate face68-32 --data photos
      256 images of a folder, faces found by the detector
  keyposs-trt calibrate face.onnx --data WFLW --split train --auto --tolerance 0.05
      annotated faces; layers that cost accuracy stay in FP16
  keyposs-trt calibrate face.onnx --ranges face.calibration.json --method entropy
      the same histograms, another method, no images
  keyposs-trt calibrate diff a.calibration.json b.calibration.json
      what differs

exit code: 0 if the files were written (diff: if both give the same model); 1 if the
           job failed (diff: if they differ); 2 if the command makes no sense
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``calibrate``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    add = parser.add_argument
    add("model", nargs="+", metavar="MODEL", help="an ONNX file or a shipped model; or: diff A.calibration.json B.calibration.json")
    add("--data", metavar="PATH", help="a folder of images, or an annotated data set (see keyposs-trt dataset --help)")
    add("--format", metavar="F", help="of a data set: wflw, 300w, ..., mmpose, teacher; a folder is one only if it has annotations")
    add("--split", metavar="S", help="one part of the data set alone, such as train")
    add("--boxes", choices=("landmarks", "annotated", "detector"), help="what faces are cropped by (default: landmarks, or the detector)")
    add("--detector", metavar="NAME", default="blazeface", help="face detector (default: blazeface)")
    add("--samples", type=whole_number, metavar="N", default=256, help="face crops to calibrate on (default: 256)")
    add("--seed", type=int, default=0, help="another seed chooses other images (default: 0)")
    add(
        "--on-problem",
        choices=("refuse", "skip"),
        default="refuse",
        help="images that cannot be read or have one colour (default: refuse)",
    )
    add("--method", metavar="M", help="mse, minmax, percentile or entropy (default: mse)")
    add("--percentile", type=float, metavar="P", default=99.99, help="of the method percentile (default: 99.99)")
    add("--ranges", metavar="FILE", help="take the histograms or ranges of an earlier calibration.json instead of images")
    add("--exclude", nargs="+", metavar="LAYER", default=[], help="layers that stay in FP16; stem and head always do")
    add("--list", action="store_true", help="print the layers by name, and which would be in INT8, and stop")
    add("--no-bias-correction", action="store_true", help="leave the biases as they are")
    add("--auto", action="store_true", help="keep the layers that cost accuracy in FP16; needs labelled faces (--data or --check)")
    add("--tolerance", type=float, metavar="POINTS", default=0.05, help="of --auto: what INT8 may cost, in points of NME (default: 0.05)")
    add("--check", metavar="PATH", help="data set to measure the accuracy on (default: that of --data)")
    add("--check-split", metavar="S", help="one part of it alone")
    add("--check-format", metavar="F", help="its format")
    add("--check-faces", type=whole_number, metavar="N", default=128, help="faces to measure on (default: 128)")
    add("--plot", metavar="FILE", help="of --auto: draw NME against the share of INT8: .png, .pdf or .svg")
    add("--engine", choices=("builtin", "modelopt"), default="builtin", help="who measures and places Q/DQ (default: builtin)")
    add("--write-cache", metavar="FILE", help="also TensorRT's own calibration cache, for TensorRT up to 10 without Q/DQ, and DLA")
    add("--cache-version", metavar="V", default="10.3.0", help="of the TensorRT that will read the cache (default: 10.3.0)")
    add("-o", "--output", metavar="FILE", help="the Q/DQ model (default: NAME_int8.onnx)")
    add("--calibration", metavar="FILE", help="the ranges (default: NAME.calibration.json beside the Q/DQ model)")
    add("--threads", type=whole_number, metavar="N", help="processor threads (default: all)")
    add("--json", metavar="FILE|-", help="write what was done as JSON; - is standard output, and nothing else is printed there")


def run(args: argparse.Namespace) -> int:
    """Calibrates, or compares two calibrations."""
    from keyposs_trt.quiet import quiet_opencv

    if not args.debug:
        quiet_opencv()
    if args.model[0] == "diff":
        return _diff(args)
    if len(args.model) > 1:
        raise UsageError(f"Calibrate one model at a time: '{args.model[1]}' is one too many.")
    return _list(args) if args.list else _calibrate(args)


def _calibrate(args: argparse.Namespace) -> int:
    from keyposs_trt.calibration.inputs import labelled_faces
    from keyposs_trt.calibration.judge import Judge
    from keyposs_trt.calibration.record import to_lines, to_record
    from keyposs_trt.calibration.sensitivity import decide, plot_trade, trade
    from keyposs_trt.calibration.trt_cache import to_cache
    from keyposs_trt.engine.onnx_file import load_onnx
    from keyposs_trt.graph import save_model
    from keyposs_trt.graph.calibration_file import quantise_by, write_calibration
    from keyposs_trt.models import resolve

    name = args.model[0]
    path = resolve(name)
    model, spec = load_onnx(path)
    output = Path(args.output or f"{path.stem}_int8.onnx")
    ranges = Path(args.calibration or output.with_name(f"{path.stem}.calibration.json"))
    _check(args, path, output, ranges)
    faces = labelled_faces(_check_source(args), spec, args.check_faces) if args.auto else None
    calibration, quantised = _made(args, name, model, spec, ranges.with_name(f".{ranges.name}.unfinished.npz"))
    decision = None
    if faces is not None:
        judge = Judge(model, faces, args.threads)
        with _Bar("measuring layers", None) as bar:
            decision = decide(model, calibration, judge, args.tolerance, name=name, progress=bar.to)
        calibration = decision.applied_to(calibration, _check_source(args).words)
    if quantised is None:
        quantised = quantise_by(model, calibration, name, ranges)
    save_model(quantised, output)
    write_calibration(calibration, ranges)
    if args.write_cache:
        write_text(to_cache(calibration.ranges, args.cache_version), args.write_cache)
    if decision is not None and args.plot:
        plot_trade(args.plot, decision)
    record = to_record(calibration, model, quantised, output, ranges, args.write_cache, decision)
    if args.json:
        write_text(json.dumps(record, indent=2) + "\n", args.json)
    if args.json != "-":
        for line in [*(trade(decision) if decision else ()), *to_lines(record)]:
            sys.stdout.write(line + "\n")
    return 0


def _made(
    args: argparse.Namespace, name: str, model: onnx.ModelProto, spec: ModelSpec, state: Path
) -> tuple[Calibration, onnx.ModelProto | None]:
    """The calibration, and the Q/DQ model where somebody else places the nodes."""
    from keyposs_trt.calibration.inputs import Source, calibration_set
    from keyposs_trt.calibration.reuse import reuse
    from keyposs_trt.calibration.run import Method, calibrate, check_set

    method = Method(args.method or "mse", args.percentile)
    exclude = _known(model, args.exclude)
    if args.ranges:
        return replace(reuse(args.ranges, model, args.method and method, name), excluded=exclude), None
    if not args.data:
        raise UsageError("Say what to calibrate on: --data FOLDER of face images, or an annotated data set; or --ranges of an earlier run.")
    source = Source(args.data, args.format, args.split, args.boxes, args.detector)
    with _Bar("choosing faces", args.samples) as bar:
        choice = {"seed": args.seed, "on_problem": args.on_problem, "threads": args.threads, "progress": bar.to}
        crops = calibration_set(source, spec, args.samples, **choice)
    for sentence in crops.passed_over:
        sys.stderr.write(f"note: passed over {sentence}\n")
    check_set(crops)
    if args.engine == "modelopt":
        from keyposs_trt.calibration.modelopt import quantise_with_modelopt

        return quantise_with_modelopt(model, crops, method, exclude, name=name, source=source.words)
    with _Bar("calibrating", len(crops)) as bar:
        found = calibrate(
            model,
            crops,
            method,
            name=name,
            source=source.words,
            threads=args.threads,
            state=state,
            correct_biases=not args.no_bias_correction,
            progress=bar.to,
        )
    return replace(found, excluded=exclude), None


def _check_source(args: argparse.Namespace) -> Source:
    """Where the labelled faces of --auto are."""
    from keyposs_trt.calibration.inputs import Source

    if args.check:
        return Source(args.check, args.check_format, args.check_split)
    if not args.data:
        raise UsageError("--auto needs labelled faces: give a data set with --data or --check.")
    return Source(args.data, args.format, args.check_split or args.split)


def _known(model: onnx.ModelProto, exclude: list[str]) -> tuple[str, ...]:
    """Layers to leave out, which must be there."""
    from keyposs_trt.graph.placement import place
    from keyposs_trt.graph.qdq import network_of

    place(network_of(model).graph, exclude)
    return tuple(dict.fromkeys(exclude))


def _check(args: argparse.Namespace, path: Path, output: Path, ranges: Path) -> None:
    """Refuses what makes no sense, before minutes of work."""
    from keyposs_trt.calibration.methods import check_method
    from keyposs_trt.calibration.trt_cache import to_cache
    from keyposs_trt.plots import check_plot

    check_method(args.method or "mse", args.percentile)
    to_cache({}, args.cache_version)
    if args.data and args.ranges:
        raise UsageError("Give either --data, to measure ranges, or --ranges, to take those of an earlier run.")
    if args.ranges and args.engine != "builtin":
        raise UsageError("--ranges are placed by the builtin engine; leave --engine out.")
    if args.plot and not args.auto:
        raise UsageError("--plot draws the trade of --auto; give both.")
    if args.auto and args.engine != "builtin":
        raise UsageError("--auto measures layers placed by the builtin engine; leave --engine out.")
    if args.plot:
        check_plot(args.plot, "--plot")
    if output.suffix.lower() != ".onnx":
        raise UsageError(f"The Q/DQ model is an ONNX file: '{output}' must end in .onnx.")
    outputs = {"-o": output, "--calibration": ranges, "--write-cache": args.write_cache, "--plot": args.plot, "--json": args.json}
    for option, file in distinct_outputs(outputs, {path: "the model"}):
        folder = file.resolve().parent
        if not folder.is_dir():
            raise UsageError(f"There is no folder '{folder}' for {option}; make it, or give another file.")


def _list(args: argparse.Namespace) -> int:
    """The layers by name."""
    from keyposs_trt.calibration.macs import multiply_adds
    from keyposs_trt.engine.onnx_file import load_onnx
    from keyposs_trt.graph.placement import place, weighted_nodes
    from keyposs_trt.graph.qdq import network_of
    from keyposs_trt.models import resolve

    graph = network_of(load_onnx(resolve(args.model[0]))[0]).graph
    placement, macs = place(graph, args.exclude), multiply_adds(graph)
    for node in weighted_nodes(graph):
        sys.stdout.write(f"{placement.kept.get(node.name, 'int8'):12s} {macs.get(node.name, 0):13,d}  {node.name}\n")
    return 0


def _diff(args: argparse.Namespace) -> int:
    from keyposs_trt.calibration.compare_ranges import difference, in_words
    from keyposs_trt.graph.calibration_file import read_calibration

    if len(args.model) != 3:
        raise UsageError("Give two calibrations: keyposs-trt calibrate diff A.calibration.json B.calibration.json.")
    found = difference(*(read_calibration(path) for path in args.model[1:]))
    if args.json:
        write_text(json.dumps({**asdict(found), "same": found.same}, indent=2) + "\n", args.json)
    if args.json != "-":
        sys.stdout.write("\n".join(in_words(found)) + "\n")
    return 0 if found.same else 1


class _Bar:
    """A progress bar that is told where it is."""

    def __init__(self, title: str, total: int | None) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, desc=title, leave=False, disable=None, file=sys.stderr)

    def to(self, done: int, total: int | None = None) -> None:
        if total is not None:
            self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
