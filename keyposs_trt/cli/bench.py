"""``keyposs-trt bench``: how long a model takes on this machine, stage by stage and end to end."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.cli.arguments import whole_number
from keyposs_trt.cli.output import write_text
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from keyposs_trt.bench.subject import Subject

HELP = "measure how long a model takes, stage by stage and end to end"

_BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")
_MANUAL = """\
The headline is the time from a picture in memory to the landmarks of its faces. The
stages below it are timed one by one on the same pictures: reading or decoding, face
detection, cropping, copying to the device, the network, its way back to landmarks in
image pixels, and drawing. The batch sweep times the model alone, from crops to
landmarks.

With --against or --against-backend two models take turns in every pass, and the ratio
of their medians is given with an interval.

examples:
  keyposs-trt bench
      the shipped model on the sample photograph
  keyposs-trt bench face68-32 --source talk.mp4 --threads 4 --json talk.json
      on a video of one's own, with four threads
  keyposs-trt bench face68-32 --against face68-16 --batch 1 8
      two models in turns

exit code: 0 if it was measured, 1 if it could not be, 2 for a usage error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bench``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="a shipped model, or a .onnx, .plan or .engine file (default: the one that is shipped)")
    add("--source", metavar="PATH", help="an image or a video with a face (default: the sample photograph of a checkout)")
    add("--repeat", type=whole_number, metavar="N", default=200, help="passes that count (default: 200)")
    add("--warm-up", type=whole_number, metavar="N", default=10, help="passes before them that do not (default: 10)")
    add("--threads", type=whole_number, metavar="N", default=1, help="processor threads (default: 1)")
    batch = "faces in one call of the model, for the batch sweep (default: 1 2 4 8 16; none for no sweep)"
    add("--batch", type=whole_number, nargs="*", metavar="N", default=[1, 2, 4, 8, 16], help=batch)
    add("--backend", choices=_BACKENDS, default="auto", help="runtime (default: auto)")
    add("--detector", metavar="NAME", default="blazeface", help="blazeface (default), blazeface:tiles, yunet:FILE.onnx")
    add("--against", metavar="MODEL", help="another model, which takes turns with the first (default with --against-backend: the same)")
    add("--against-backend", choices=_BACKENDS, metavar="B", help=f"its runtime: {', '.join(_BACKENDS)} (default: that of --backend)")
    add("--json", metavar="FILE|-", help="write everything as JSON; - is standard output, and nothing else is printed there")


def run(args: argparse.Namespace) -> int:
    """Measures and prints."""
    from tqdm import tqdm

    from keyposs_trt.bench import Plan, bench, open_pictures
    from keyposs_trt.bench.machine import this_machine
    from keyposs_trt.bench.report import lines_of, tree_of
    from keyposs_trt.quiet import quiet_opencv

    if not args.debug:
        quiet_opencv()
    plan = Plan(args.repeat, args.warm_up, args.threads, tuple(dict.fromkeys(args.batch)))
    _check_json(args)
    machine = this_machine()  # its load before ours is added
    with ExitStack() as stack:
        pictures = stack.enter_context(closing(open_pictures(args.source)))
        subjects = _open(args, stack)
        bar = stack.enter_context(tqdm(total=plan.ticks, unit="pass", leave=False, disable=None))
        tree = tree_of(bench(pictures, subjects, plan, bar.update), machine)
    if args.json:
        write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n", args.json)
    if args.json != "-":
        sys.stdout.writelines(line + "\n" for line in lines_of(tree))
    return 0


def _open(args: argparse.Namespace, stack: ExitStack) -> list[Subject]:
    """The model, and the one it is compared with; the stack closes them."""
    from keyposs_trt.bench import open_subject

    wanted = [(args.model, args.backend)]
    if args.against or args.against_backend:
        wanted.append((args.against or args.model, args.against_backend or args.backend))
    return [stack.enter_context(open_subject(model, backend, detector=args.detector, threads=args.threads)) for model, backend in wanted]


def _check_json(args: argparse.Namespace) -> None:
    """Refuses a file that cannot be written, before minutes of work."""
    from keyposs_trt.files import require_writable

    if not args.json or args.json == "-":
        return
    for what, name in (("the model", args.model), ("the model", args.against), ("the source", args.source)):
        if name and Path(name).resolve() == Path(args.json).resolve():
            raise UsageError(f"--json would overwrite {what} '{args.json}'; give another file.")
    require_writable(args.json)
