"""``keyposs-trt build``: engines for TensorRT and TensorRT-RTX."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

from keyposs_trt.cli.arguments import whole_number
from keyposs_trt.cli.output import write_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from keyposs_trt.engine.build import BuildResult
    from keyposs_trt.engine.manifest import Manifest

HELP = "build TensorRT engines from a model"

_MANUAL = """\
For each heatmap size and precision this writes NAME_PRECISION_BACKEND.plan and its manifest, the
same name with .json added. The manifest says what the plan was built from and
for, and how to build it again; a plan is not loaded without it, so keep both
together.

precisions:
  fp32, fp16      from the model as it was exported
  int8            from a model that carries Q/DQ nodes, or with the ranges of
                  NAME.calibration.json (see keyposs-trt calibrate); those of the
                  shipped models are shipped

backends:
  tensorrt-rtx    builds without a GPU, for the desktop GPUs named with --gpu:
                  sm86 (RTX 30), sm89 (RTX 40), sm120 (RTX 50), and sm75 (RTX 20),
                  which is best in a plan of its own
  tensorrt        builds on and for the GPU of this machine

The precision of the convolutions is checked before each build: an engine that
would not be in the precision asked for is an error. One engine that fails does
not keep the others from being built; TensorRT's own words are shown then, and
with --debug always. An engine that is there, and that would become just the same,
is not built again.

examples:
  keyposs-trt build
      the shipped model in fp32 and fp16, into ./engines
  keyposs-trt build face.onnx --precision fp16 --gpu sm89 -o out
      one engine for RTX 40 GPUs, into ./out
  keyposs-trt build face68 --heatmap 64 32 16 8 4 --precision fp32 fp16 int8
      the whole family in every precision

exit code: 0 if every engine was built, 1 if any failed, 2 for a usage error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``build``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="an ONNX file or the short name of a shipped model (default: the one that is shipped)")
    add("-o", "--output", metavar="DIR", default="engines", help="folder for plans and manifests (default: engines)")
    add("--precision", nargs="+", metavar="P", default=["fp32", "fp16"], help="fp32, fp16, int8 (default: fp32 fp16)")
    add("--heatmap", nargs="+", type=whole_number, metavar="S", help="heatmap sizes of a family of models named MODEL-S, such as face68")
    add("--backend", default="auto", metavar="B", help="tensorrt, tensorrt-rtx, or auto: the first that is installed (default: auto)")
    add(
        "--gpu",
        nargs="+",
        metavar="SM",
        help="compute capabilities to build for, or 'current' (default: sm86 sm89 sm120 with tensorrt-rtx, current with tensorrt)",
    )
    batch = "faces in one call; the engine is tuned for BEST (default: 1:4:16)"
    add("--batch", type=_batch, metavar="MIN:BEST:MAX", default=(1, 4, 16), help=batch)
    add("--workspace", type=int, metavar="MIB", help="scratch memory the build may use (default: half of what the GPU has free)")
    add("--calibration", metavar="FILE", help="ranges for int8 (default: NAME.calibration.json beside the model)")
    kinds = "with tensorrt: a plan for all GPUs from Ampere on, or for newer TensorRTs too (then with the plugin inside)"
    add("--compatible", nargs="+", metavar="KIND", default=[], help=f"hardware, version; {kinds}")
    add("--force", action="store_true", help="build even what is there")
    add("--check", metavar="PATH", help="measure the NME of each engine's graph on this annotated data set, for the manifest")
    add("--check-format", metavar="F", help="its format (default: found out)")
    add("--check-split", metavar="S", help="one part of it alone")
    add("--check-faces", type=whole_number, metavar="N", default=128, help="faces to measure on (default: 128)")
    add("--json", metavar="FILE|-", help="write the results as JSON, with the manifests; - is standard output")


def run(args: argparse.Namespace) -> int:
    """Builds; 1 if an engine failed."""
    from keyposs_trt.engine.build import build_engine
    from keyposs_trt.files import require_writable

    out = sys.stderr if args.json == "-" else sys.stdout
    if args.json and args.json != "-":
        require_writable(args.json)
    line = _ProgressLine(sys.stderr)
    try:
        results = build_engine(
            args.model,
            args.output,
            precision=args.precision,
            heatmap=args.heatmap,
            backend=args.backend,
            gpu=args.gpu,
            batch=args.batch,
            workspace=None if args.workspace is None else args.workspace << 20,
            calibration=args.calibration,
            compatibility=args.compatible,
            force=args.force,
            measure=_measure(args),
            progress=line.show,
        )
    finally:
        line.clear()
    for result in results:
        _report(result, out, args.debug)
    if args.json:
        write_text(json.dumps([_as_dict(r) for r in results], indent=2) + "\n", args.json)
    return 1 if any(r.error for r in results) else 0


def _measure(args: argparse.Namespace) -> Callable[[onnx.ModelProto, onnx.ModelProto], dict[str, Any]] | None:
    """Measures the accuracy of a graph that was built, on the CPU; None where nobody asked."""
    if not args.check:
        return None
    from keyposs_trt.calibration.inputs import Source
    from keyposs_trt.calibration.judge import Measurer

    return Measurer(Source(args.check, args.check_format, args.check_split), args.check_faces)


def _accuracy(manifest: Manifest) -> str:
    found = manifest.measured
    if found is None:
        return ""
    cost = 100 * (found["nme"] - found["nme_fp32"])
    return f", NME {100 * found['nme']:.3f} % ({cost:+.3f}), drift p99 {found['drift_p99']:.3f} px"


def _batch(text: str) -> tuple[int, int, int]:
    try:
        low, best, high = (int(n) for n in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not MIN:BEST:MAX, such as 1:4:16") from None
    return low, best, high


def _report(result: BuildResult, out: TextIO, debug: bool) -> None:
    """One line an engine; TensorRT's own words after a failure, and with --debug."""
    if result.manifest is not None:
        m = result.manifest
        size, runtime = f"{m.plan_bytes / 1e6:.2f} MB", f"{m.runtime} {m.runtime_version}"
        took = "there already" if result.skipped else f"{result.seconds:.1f} s"
        out.write(f"{result.plan}  {m.precision}, {size}, {runtime}, {' '.join(m.targets)}, {took}{_accuracy(m)}\n")
    else:
        sys.stderr.write(f"error: {result.error}\n")
    for note in result.notes:
        sys.stderr.write(f"note: {note}\n")
    if result.log and (debug or result.error):
        sys.stderr.writelines(f"  {line}\n" for line in result.log)


def _as_dict(result: BuildResult) -> dict[str, Any]:
    return {
        "model": result.model,
        "precision": result.precision,
        "skipped": result.skipped,
        "plan": None if result.plan is None else str(result.plan),
        "error": None if result.error is None else str(result.error),
        "seconds": round(result.seconds, 3),
        "notes": list(result.notes),
        "manifest": None if result.manifest is None else json.loads(result.manifest.to_json()),
    }


class _ProgressLine:
    """One line that is overwritten on a terminal; elsewhere one line a phase of ours, and none for TensorRT's many."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._width = 0

    def show(self, precision: str, phase: str, done: int, total: int) -> None:
        """Shows a step."""
        if not self._terminal:
            if not total:
                self._out.write(f"{precision}: {phase}\n")
            return
        text = f"{precision}: {phase} {done}/{total}" if total > 1 else f"{precision}: {phase}"
        self._out.write("\r" + text.ljust(self._width))
        self._out.flush()
        self._width = max(self._width, len(text))

    def clear(self) -> None:
        """Wipes the line."""
        if self._terminal and self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._out.flush()
