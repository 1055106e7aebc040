"""``keyposs-trt run``: landmarks on images, folders, videos and cameras."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.cli.arguments import whole_number
from keyposs_trt.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.landmarker import Landmarker
    from keyposs_trt.landmarks import Landmarks
    from keyposs_trt.video.contract import Source
    from keyposs_trt.video.jsonl import JsonLines

HELP = "find facial landmarks in images, folders, videos or a camera"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``run``."""
    add = parser.add_argument
    add(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="an image, a video, a folder (its images and videos, not its subfolders), a quoted pattern such as 'photos/**/*.jpg', "
        "or the number of a camera (0)",
    )
    add(
        "-o",
        "--output",
        metavar="OUT",
        help="where annotated pictures go: a folder, or for a single source a file (.jpg, .png, .mp4, .mkv, .avi ...); "
        "sources are never overwritten",
    )
    add("--json", metavar="FILE|-", help="write landmarks as JSON lines, one object a frame; - is standard output")
    add("--model", metavar="NAME|FILE", help="landmark model (default: the one that is shipped)")
    add("--backend", choices=("auto", "onnxruntime", "tensorrt", "tensorrt-rtx"), default="auto", help="runtime (default: auto)")
    add(
        "--detector",
        metavar="NAME",
        default="blazeface",
        help="blazeface (default), blazeface:tiles (finds smaller faces), yunet:FILE.onnx",
    )
    add("--max-faces", type=whole_number, metavar="N", help="at most N faces a picture, the best ones (default: all)")
    add("--min-score", type=_share, metavar="X", help="leave out faces the detector is less sure of, 0 to 1 (default: the detector's)")
    add("--no-detect", action="store_true", help="no detector: the whole picture is the face")
    add("--detect-every", type=whole_number, metavar="N", default=15, help="in video, look for new faces on every N-th frame (default: 15)")
    add("--threads", type=whole_number, metavar="N", help="processor threads (default: the runtime's choice)")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; 1 if a source could not be read or broke off, or on an interruption."""
    from keyposs_trt.quiet import quiet_opencv
    from keyposs_trt.video.jsonl import STDOUT, JsonLines
    from keyposs_trt.video.sinks import plan_outputs

    if not args.debug:
        quiet_opencv()
    if args.json == "/dev/stdout":
        args.json = STDOUT  # so that nothing else is written there
    say = _Say(sys.stderr if args.json == STDOUT else sys.stdout)
    sources = _expand_all(args.source, say)
    if not sources:
        return 1
    outputs: Sequence[Path | None] = plan_outputs(sources, args.output) if args.output else [None] * len(sources)
    _check_json(args.json, sources, outputs)

    with ExitStack() as stack:
        records = stack.enter_context(JsonLines(args.json)) if args.json else None
        landmarker = stack.enter_context(_load(args))
        try:
            _run_all(args, landmarker, sources, outputs, records, say)
        except KeyboardInterrupt:
            say.error("interrupted; what was finished until then is kept.")
    if records and records.lines and args.json != STDOUT:
        say(f"{records.lines} JSON line{'s'[: records.lines > 1]} -> {args.json}")
    if not args.output and not args.json and not say.errors:
        say.note("Nothing was saved: -o OUT saves annotated pictures, --json FILE the landmarks.")
    return 1 if say.errors else 0


class _Say:
    """Lines for the user, written past a progress bar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.errors = 0

    def __call__(self, line: object) -> None:
        from tqdm import tqdm

        tqdm.write(str(line), file=self._stream)
        self._stream.flush()

    def note(self, line: object) -> None:
        from tqdm import tqdm

        tqdm.write(str(line), file=sys.stderr)

    def error(self, line: object) -> None:
        self.errors += 1
        self.note(line)


def _expand_all(arguments: Sequence[str], say: _Say) -> list[Source]:
    """The sources that are there, each once, in order; those that are not are reported."""
    from keyposs_trt.video.sources import expand

    found: dict[Source, None] = {}
    for argument in arguments:
        try:
            found.update(dict.fromkeys(expand(argument)))
        except InputError as e:
            say.error(f"error: {e}")
    return list(found)


def _check_json(json: str | None, sources: Sequence[Source], outputs: Sequence[Path | None]) -> None:
    if not json:
        return
    path = Path(json).resolve()
    if path in {Path(s.name).resolve() for s in sources if s.kind != "camera"}:
        raise UsageError(f"--json would overwrite the source '{json}'; give another file.")
    if path in {o.resolve() for o in outputs if o}:
        raise UsageError(f"'{json}' is the output of both -o and --json; give two names.")


def _load(args: argparse.Namespace) -> Landmarker:
    from keyposs_trt.detection import load_detector
    from keyposs_trt.landmarker import Landmarker

    detector = None if args.no_detect else load_detector(args.detector, min_score=args.min_score, threads=args.threads)
    return Landmarker.load(args.model, args.backend, detector=detector, threads=args.threads)


def _run_all(
    args: argparse.Namespace,
    landmarker: Landmarker,
    sources: Sequence[Source],
    outputs: Sequence[Path | None],
    records: JsonLines | None,
    say: _Say,
) -> None:
    """Source after source; one that cannot be read is reported, and the others go on."""
    from tqdm import tqdm

    from keyposs_trt.drawing import draw_landmarks
    from keyposs_trt.video.pipeline import Summary, process
    from keyposs_trt.video.sources import open_source

    # disable=None: no bar where standard error is not a terminal. The bars go; the lines of the summaries stay.
    with tqdm(total=len(sources), unit="source", leave=False, disable=True if len(sources) == 1 else None) as all_bar:
        for source, output in zip(sources, outputs, strict=True):
            summary = Summary(source, output)
            name, still = Path(source.name).name, True if source.kind == "image" else None
            try:
                with (
                    closing(open_source(source)) as frames,
                    tqdm(total=frames.count, unit="frame", desc=name, leave=False, disable=still) as bar,
                ):
                    find = _finder(args, landmarker, source)
                    process(frames, find, summary, scheme=landmarker.spec.scheme, draw=draw_landmarks, records=records, tick=bar.update)
            except InputError as e:
                say.error(f"error: {e}")
            finally:
                if summary.frames:
                    say(summary)
            all_bar.update()


def _finder(args: argparse.Namespace, landmarker: Landmarker, source: Source) -> Callable[[NDArray[np.uint8]], list[Landmarks]]:
    """Picture -> faces, the way that suits the source."""
    from keyposs_trt.video.pipeline import whole_image
    from keyposs_trt.video.tracking import Tracker

    if args.no_detect:
        return lambda image: landmarker(image, whole_image(image))
    if source.kind == "image":
        return lambda image: landmarker(image, max_faces=args.max_faces)
    return Tracker(landmarker, max_faces=args.max_faces, detect_every=args.detect_every, lost_score=landmarker.spec.lost_score)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value
