"""Milliseconds a face, stage by stage, at batch 1: detect, crop, network, decode, map back, draw; in turn and alone.

    python benchmarks/stages.py [--model NAME|FILE] [--image FILE] [--threads 2] [--repeat 200] [--json FILE|-]

Each repetition runs the stages one after the other, as the product does, and times each; then the same work is timed end to end through
the public API. Figures are medians, p90 in brackets, divided by the number of faces found. ``alone`` is the median of the same stage
called many times in a row: the difference is what its neighbours' threads and cold caches cost.

The decoder is part of the model's graph. To time it by itself, the graph is cut at its heatmaps (needs the onnx package) and
both halves run as models of their own; ``whole graph`` is the uncut one, for comparison. Without onnx, network and decoder are
timed together. ``keyposs-trt bench`` measures a frame instead of a face, with what is around these stages, and any runtime.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from keyposs_trt import Landmarker, __version__
from keyposs_trt.bench.halves import split
from keyposs_trt.bench.stopwatch import once
from keyposs_trt.crop import crop_faces
from keyposs_trt.drawing import draw_landmarks
from keyposs_trt.errors import KeypossError
from keyposs_trt.files import atomic_path
from keyposs_trt.geometry import invert, square_of_box, transform, transform_covariance
from keyposs_trt.models import DEFAULT, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

IMAGE = Path(__file__).resolve().parent.parent / "examples" / "astronaut.jpg"
WARM_UP = 10
SMALL_STAGES = ("crop", "decode", "map back", "draw")  # all but detector and network: together below 1 ms a face
Stages = dict[str, "list[float]"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT, help="shipped model or ONNX file (default: %(default)s)")
    parser.add_argument("--image", type=Path, default=IMAGE, help="image with one face or more (default: the sample photograph)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=200, help="repetitions (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON to FILE, or to standard output with '-'")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    image = cv2.imread(str(args.image))
    if image is None:
        parser.error(f"cannot read '{args.image}'")
    try:
        result = measure(args.model, image, args.threads, args.repeat)
    except KeypossError as e:
        parser.exit(e.exit_code, f"error: {e}\n")
    result["image"] = args.image.name
    if args.json:
        text = json.dumps(result, indent=2) + "\n"
        if args.json == "-":
            sys.stdout.write(text)
        else:
            with atomic_path(args.json) as path:
                path.write_text(text, encoding="utf-8")
    if args.json != "-":
        show(result)
    return 0


def measure(model: str, image: NDArray[np.uint8], threads: int, repeat: int) -> dict[str, Any]:
    """All figures, in milliseconds a face."""
    path = resolve(model)
    with Landmarker.load(path, "onnxruntime", threads=threads) as landmarker:
        faces = landmarker(image)
        if not faces:
            raise KeypossError("The detector finds no face in this image; give another with --image.")
        halves = split(path, landmarker.spec, threads)
        network, decode = (halves.network, halves.decode) if halves else (landmarker.runner, None)
        stages: Stages = {}
        crops, _ = crop_faces(
            image, square_of_box(np.stack([f.box for f in faces]), landmarker.spec.crop_scale), landmarker.spec.input_size
        )
        for i in range(-WARM_UP, repeat):
            seconds = one_pass(image, landmarker, network, decode)
            seconds["whole graph"] = once(lambda: landmarker.runner(crops))[0]
            seconds["end to end"] = once(lambda: draw_landmarks(image, landmarker(image)))[0]
            if i >= 0:
                for name, value in seconds.items():
                    stages.setdefault(name, []).append(1e3 * value / len(faces))
        alone = {k: 1e3 * v / len(faces) for k, v in one_pass(image, landmarker, network, decode, repeat).items()}
        whole, end_to_end = stages.pop("whole graph"), stages.pop("end to end")
    return {
        "version": __version__,
        "model": model,
        "size": f"{image.shape[1]}x{image.shape[0]}",
        "faces": len(faces),
        "threads": threads,
        "repeat": repeat,
        "unit": "ms a face",
        "stages": {name: {**summary(times), "alone": alone[name]} for name, times in stages.items()},
        "all but detector and network": sum(float(np.median(stages[s])) for s in SMALL_STAGES if s in stages),
        "all but detector and network, alone": sum(alone[s] for s in SMALL_STAGES if s in alone),
        "whole graph": summary(whole),
        "end to end": summary(end_to_end),
    }


def one_pass(
    image: NDArray[np.uint8], landmarker: Landmarker, network: Callable[..., Any], decode: Callable[..., Any] | None, repeat: int = 1
) -> dict[str, float]:
    """Seconds of each stage of one picture, in the order of the product: of one call, or the median of ``repeat`` calls in a row."""
    spec, seconds = landmarker.spec, {}

    def clock(call: Callable[[], Any]) -> tuple[float, Any]:
        result = None
        times = []
        for _ in range(repeat):
            taken, result = once(call)
            times.append(taken)
        return float(np.median(times)), result

    assert landmarker.detector is not None
    seconds["detect"], found = clock(lambda: landmarker.detector(image))  # pyright: ignore[reportOptionalCall]
    seconds["crop"], (crops, matrices) = clock(lambda: crop_faces(image, square_of_box(found.boxes, spec.crop_scale), spec.input_size))
    name = "network" if decode else "network and decode"
    seconds[name], outputs = clock(lambda: network(crops))
    if decode:
        maps = outputs
        seconds["decode"], outputs = clock(lambda: decode(maps))

    def map_back() -> Any:
        back = invert(matrices)
        return transform(back, outputs.landmarks), transform_covariance(back, outputs.covariance)

    seconds["map back"], (mapped, spread) = clock(map_back)
    faces = [landmarker._result((p, s, c), b, 1.0) for p, s, c, b in zip(mapped, outputs.scores, spread, found.boxes, strict=True)]
    seconds["draw"], _ = clock(lambda: draw_landmarks(image, faces))
    return seconds


def summary(times: list[float]) -> dict[str, float]:
    return {"p50": float(np.median(times)), "p90": float(np.percentile(times, 90))}


def show(result: dict[str, Any]) -> None:
    print(f"{result['model']} on {result['image']} ({result['size']}, faces: {result['faces']}), threads: {result['threads']}; ms a face")
    rows = {**result["stages"], "whole graph": result["whole graph"], "end to end": result["end to end"]}
    for name, times in rows.items():
        alone = f"   alone {times['alone']:.3f}" if "alone" in times else ""
        print(f"  {name:20s} {times['p50']:7.3f}   ({times['p90']:.3f}){alone}")
    small = "all but detector and network"
    print(f"{small}: {result[small]:.3f} ms a face; alone {result[f'{small}, alone']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
