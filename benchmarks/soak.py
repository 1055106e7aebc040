"""A long run: memory, file descriptors and threads of a pipeline, every tenth of its frames.

    python benchmarks/soak.py [--frames 100000] [--streams 2] [--model face68-4] [--threads 1]

The sources are moving pictures of a face, read as fast as they come; landmarks are smoothed, and go to JSON lines that are put
aside by size. The second half of the run is judged: growth of the memory that the process holds over its
half, in megabytes and in bytes a frame.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt import Landmarker
from keyposs_trt.video.json_sinks import JsonFileSink
from keyposs_trt.video.pipeline import VideoPipeline
from keyposs_trt.video.statistics import Statistics

if TYPE_CHECKING:
    from keyposs_trt.video.contract import Frames, Sink, Source

PHOTO = Path(__file__).resolve().parents[1] / "examples/astronaut.jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000, help="of all streams together")
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--model", default="face68-4")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    each = args.frames // args.streams
    sources = [f"test://{n}#live=0&image={PHOTO}&width=160&height=120&frames={each}" for n in range(args.streams)]
    statistics = Statistics()
    rows: list[tuple[int, float, int, int]] = []
    start = time.monotonic()
    print("| frames | frames a second | MB | descriptors | threads |\n|---|---|---|---|---|")

    def tick() -> None:
        done = sum(stream.summary.frames for stream in pipeline.running)
        if done >= (len(rows) + 1) * args.frames // 20:
            gc.collect()
            process = statistics.snapshot()["process"]
            rows.append((done, process["rss_bytes"] / 1e6, process["open_files"], process["threads"]))
            print(f"| {done} | {done / (time.monotonic() - start):.0f} | {rows[-1][1]:.1f} | {rows[-1][2]} | {rows[-1][3]} |", flush=True)

    with tempfile.TemporaryDirectory() as folder, Landmarker.load(args.model, threads=args.threads) as landmarker:

        def sinks(source: Source, number: int, frames: Frames) -> list[Sink]:  # noqa: ARG001 (what a pipeline gives)
            return [JsonFileSink(Path(folder) / f"{number}.jsonl", live=True, rotate=50_000_000)]

        pipeline = VideoPipeline(sources, landmarker, sinks, smooth=True, statistics=statistics)
        summaries = pipeline.run(tick)
    half = [row for row in rows if row[0] >= args.frames / 2]
    growth = np.polyfit([row[0] for row in half], [row[1] for row in half], 1)[0]
    done, with_faces = sum(s.frames for s in summaries), sum(s.with_faces for s in summaries)
    print(f"\n{done} frames, {with_faces} with faces, {time.monotonic() - start:.0f} s")
    print(f"second half: {growth * args.frames / 2:+.2f} MB ({growth * 1e6:+.1f} bytes a frame), descriptors {half[0][2]} to {half[-1][2]}")


if __name__ == "__main__":
    main()
