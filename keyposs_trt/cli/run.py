"""``keyposs-trt run``: landmarks of images, folders, videos, cameras and streams, to pictures, videos, a page and JSON lines."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.cli.arguments import whole_number
from keyposs_trt.errors import InputError, UsageError

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from keyposs_trt.cli.run_report import Say
    from keyposs_trt.landmarker import Landmarker
    from keyposs_trt.video.contract import Sink, Source
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
        "the number of a camera (0), or an address with options after #: camera: v4l2:// csi:// rtsp:// rtsps:// http:// https:// file:// "
        "test://; "
        "several are worked on side by side (docs/sources.md)",
    )
    add(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="OUT",
        help="where annotated pictures go: a folder, or for a single source a file (.jpg, .png, .mp4, .mkv, .avi ...); window: ; "
        "preview:[HOST:]PORT, a page for browsers; null: ; more than one -o may be given; ?segment=10min "
        "cuts a video (docs/sinks.md); sources are never overwritten",
    )
    add(
        "--json",
        metavar="FILE|FOLDER/|-",
        help="landmarks as JSON lines: in one file, in a file for each source, or to standard output; "
        "?rotate=100MB puts aside what live sources have written",
    )
    add("--show", action="store_true", help="show the annotated pictures in a window; q ends")
    add("--model", metavar="NAME|FILE", help="landmark model (default: face68-32)")
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
    add("--stats-json", metavar="FILE|-", help="all figures of the run, written at its end")
    add("--metrics", metavar="[HOST:]PORT", help="serve /metrics for Prometheus, /stats.json and /health (docs/metrics.md)")
    add(
        "--log",
        choices=("text", "json"),
        default="text",
        help="how standard error is written: for a reader, or one JSON object a line (default: text)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the verb; 1 if a source could not be read or broke off, a result could not be written, or on an interruption."""
    from keyposs_trt.video.logs import configure, restore

    log = configure(args.log, "debug" if args.debug else "info")
    try:
        return _run(args, log)
    finally:
        restore()


def _run(args: argparse.Namespace, log: logging.Logger) -> int:
    from keyposs_trt.cli.output import write_text
    from keyposs_trt.cli.run_report import Report, Say
    from keyposs_trt.files import require_writable
    from keyposs_trt.quiet import quiet_opencv
    from keyposs_trt.video.jsonl import is_stdout
    from keyposs_trt.video.logs import log_event
    from keyposs_trt.video.outputs import Outputs
    from keyposs_trt.video.pipeline import VideoPipeline
    from keyposs_trt.video.sinks import check_record_file
    from keyposs_trt.video.statistics import Statistics

    if not args.debug:
        quiet_opencv()
    if args.json is not None and is_stdout(Path(args.json)):
        args.json = "-"  # so that nothing else is written there
    if args.json == args.stats_json == "-":
        raise UsageError("--json and --stats-json cannot both go to standard output; give one of them a file.")
    say = Say(sys.stderr if "-" in (args.json, args.stats_json) else sys.stdout, log if args.log == "json" else None)
    sources = _expand_all(args.source, say)
    if not sources:
        return 1
    statistics = Statistics()
    with ExitStack() as stack:
        outputs = stack.enter_context(Outputs(sources, args.output, args.json, args.show))
        if args.stats_json not in (None, "-"):
            check_record_file(args.stats_json, sources, outputs.paths, "--stats-json", "--stats-json and of -o or --json")
            require_writable(args.stats_json)
        previews = _previews(_server(args.metrics, outputs, statistics, stack, say), sources)
        landmarker = stack.enter_context(_load(args))
        report = Report(say, sources, outputs, statistics, args.stats)
        pipeline = VideoPipeline(
            sources,
            landmarker,
            lambda source, number, frames: [*outputs.sinks(source, number, frames), *previews[number : number + 1]],
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
            with suppress(KeyboardInterrupt):  # all is done; another way to close the window
                outputs.wait()
    report.close(args.json)
    if args.stats_json is not None:
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


def _server(metrics: str | None, outputs: Outputs, statistics: Statistics, stack: ExitStack, say: Say) -> WebServer | None:
    """The server of the preview, or None; figures are served there, and at ``metrics``, which may be the same address."""
    from keyposs_trt.video.monitor import serve_statistics
    from keyposs_trt.video.web import WebServer, parse_address

    page = None if outputs.preview is None else parse_address(outputs.preview)
    servers: dict[tuple[str, int], WebServer] = {}
    for address in (metrics, outputs.preview):
        if address is not None and (parsed := parse_address(address)) not in servers:
            server = servers[parsed] = stack.enter_context(WebServer(address))
            serve_statistics(server, statistics)
            say.note(f"serving at {server.url}{'' if parsed == page else 'metrics'}")
    return None if page is None else servers[page]


def _previews(server: WebServer | None, sources: Sequence[Source]) -> list[Sink]:
    """What the page shows of each source: numbered in their order, and all pictures as one stream."""
    if server is None:
        return []
    from keyposs_trt.video.preview import PreviewSink

    pictures: PreviewSink | None = None
    previews: list[Sink] = []
    for source in sources:
        if source.kind != "image":
            previews.append(PreviewSink(server, source.name))
            continue
        pictures = pictures or PreviewSink(server, "images", stays=True)
        previews.append(pictures)
    return previews


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
