"""``keyposs-trt run``: landmarks of images, folders, videos, cameras and streams, to pictures, videos, a page and JSON lines."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from keyposs_trt.cli.arguments import whole_number
from keyposs_trt.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyposs_trt.cli.run_report import Say
    from keyposs_trt.landmarker import Landmarker
    from keyposs_trt.video.contract import Frames, Sink, Source
    from keyposs_trt.video.outputs import Outputs
    from keyposs_trt.video.statistics import Statistics
    from keyposs_trt.video.web import WebServer

HELP = "find facial landmarks in images, folders, videos, cameras and streams"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``run``."""
    add = parser.add_argument
    add(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="an image, a video, a folder (its images and videos, not its subfolders), a quoted pattern such as 'photos/**/*.jpg', "
        "the number of a camera (0), or an address: camera: v4l2:// csi:// rtsp:// http:// https:// test://, with options after #; "
        "several are worked on side by side (docs/sources.md)",
    )
    add(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="OUT",
        help="where annotated pictures go: a folder, or for a single source a file (.jpg, .png, .mp4, .mkv, .avi ...); window: ; "
        "preview:[HOST:]PORT, a page for browsers; null: ; more than one -o may be given (docs/sinks.md); sources are never overwritten",
    )
    add("--json", metavar="FILE|FOLDER/|-", help="landmarks as JSON lines: in one file, in a file for each source, or to standard output")
    add("--show", action="store_true", help="show the annotated pictures in a window; q ends")
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
    add(
        "--smooth",
        action=argparse.BooleanOptionalAction,
        help="calm the landmarks of followed faces, the uncertain ones more (default: for cameras and streams, not for files)",
    )
    add("--threads", type=whole_number, metavar="N", help="processor threads (default: the runtime's choice)")
    add("--at-once", type=whole_number, metavar="N", default=4, help="videos that are worked on side by side (default: 4)")
    add(
        "--stats",
        type=_seconds,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="say on standard error what passes, every 5 or so seconds",
    )
    add("--stats-json", metavar="FILE", help="all figures of the run, written at its end")
    add("--metrics", metavar="[HOST:]PORT", help="serve /metrics for Prometheus, /stats.json and /health (docs/metrics.md)")
    add("--log", choices=("text", "json"), default="text", help="how events are told on standard error (default: text)")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; 1 if a source could not be read or broke off, a result could not be written, or on an interruption."""
    from keyposs_trt.cli.output import write_text
    from keyposs_trt.cli.run_report import Report, Say
    from keyposs_trt.files import require_writable
    from keyposs_trt.quiet import quiet_opencv
    from keyposs_trt.video.logs import configure, log_event
    from keyposs_trt.video.outputs import Outputs
    from keyposs_trt.video.pipeline import VideoPipeline
    from keyposs_trt.video.statistics import Statistics

    if not args.debug:
        quiet_opencv()
    if args.json == "/dev/stdout":
        args.json = "-"  # so that nothing else is written there
    say = Say(sys.stderr if args.json == "-" else sys.stdout)
    sources = _expand_all(args.source, say)
    if not sources:
        return 1
    statistics = Statistics()
    if args.stats_json:
        require_writable(args.stats_json)
    with ExitStack() as stack:
        outputs = stack.enter_context(Outputs(sources, args.output, args.json, args.show))
        pages = _pages(args.metrics, outputs, statistics, stack, say)
        landmarker = stack.enter_context(_load(args))
        log = configure(args.log, "debug" if args.debug else "info")
        report = Report(say, sources, outputs, statistics, args.stats)
        pipeline = VideoPipeline(
            sources,
            landmarker,
            lambda source, number, frames: [*outputs.sinks(source, number, frames), *_previews(pages, source, number, frames)],
            detect=not args.no_detect,
            max_faces=args.max_faces,
            detect_every=args.detect_every,
            smooth=args.smooth,
            statistics=statistics,
            on_event=lambda source, event: log_event(log, source, event),
            on_end=report.ended,
            at_once=args.at_once,
        )
        report.watch(pipeline)
        if not report.interrupted:
            outputs.wait()
    report.close()
    if args.stats_json:
        import json

        write_text(json.dumps(statistics.snapshot(), indent=1) + "\n", args.stats_json)
    if not args.output and not args.json and not args.show and not say.errors:
        say.note("Nothing was saved: -o OUT saves annotated pictures, --json FILE the landmarks.")
    return 1 if say.errors else 0


def _expand_all(arguments: Sequence[str], say: Say) -> list[Source]:
    """The sources that are there, each once, in order; those that are not are reported."""
    from keyposs_trt.video.sources import expand

    found: dict[Source, None] = {}
    for argument in arguments:
        try:
            found.update(dict.fromkeys(expand(argument)))
        except InputError as e:
            say.error(f"error: {e}")
    return list(found)


def _load(args: argparse.Namespace) -> Landmarker:
    from keyposs_trt.detection import load_detector
    from keyposs_trt.landmarker import Landmarker

    detector = None if args.no_detect else load_detector(args.detector, min_score=args.min_score, threads=args.threads)
    return Landmarker.load(args.model, args.backend, detector=detector, threads=args.threads)


def _pages(metrics: str | None, outputs: Outputs, statistics: Statistics, stack: ExitStack, say: Say) -> WebServer | None:
    """The server of the preview, or None; figures are served there, and at ``metrics``, which may be the same address."""
    from keyposs_trt.video.monitor import serve_statistics
    from keyposs_trt.video.web import WebServer, parse_address

    addresses = {parse_address(a): a for a in (metrics, outputs.preview) if a is not None}
    servers = {}
    for parsed, address in addresses.items():
        servers[parsed] = stack.enter_context(WebServer(address))
        serve_statistics(servers[parsed], statistics)
        say.note(f"serving at {servers[parsed].url}")
    return servers[parse_address(outputs.preview)] if outputs.preview else None


def _previews(server: WebServer | None, source: Source, number: int, frames: Frames) -> list[Sink]:  # noqa: ARG001
    from keyposs_trt.video.preview import PreviewSink

    return [PreviewSink(server, source.name)] if server else []


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds, at least 0.1")
    return value
