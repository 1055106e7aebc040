"""What FP16 and INT8 cost: NME, drift and size of models in every precision and by every calibration method.

    python benchmarks/int8.py [MODEL ...] [--data ../shared/data] [--samples 512] [--methods mse minmax percentile entropy]

FP16 is the graph cast, INT8 the Q/DQ graph of the calibration beside the model ("shipped"), and with --methods of ranges measured here
over portraits and headshots seen in training. All run on the CPU with TensorRT's arithmetic, on the unseen set (73 portraits whose number
ends in 7) against the teacher's points, and on the six photographs of 300W and WFLW against their annotations. Drift is the distance from
the FP32 model's landmarks in crop pixels; bytes are the network's constants over those in FP32.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from keyposs_trt.calibration import collect_faces
from keyposs_trt.calibration.judge import Judge
from keyposs_trt.calibration.measure import measure
from keyposs_trt.calibration.run import Method, calibration_of
from keyposs_trt.datasets import open_dataset
from keyposs_trt.graph import expand_weights, to_fp16
from keyposs_trt.graph.calibration_file import calibration_beside, quantise_by, read_calibration
from keyposs_trt.graph.metadata import spec_of_model
from keyposs_trt.models import model_names, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = ("face68-64", "face68-32", "face68-16", "face68-8", "face68-4")


def graphs(
    name: str, model: onnx.ModelProto, data: str, samples: int, methods: list[str], threads: int
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Each graph and what it is."""
    yield "FP16", to_fp16(model)
    beside = calibration_beside(resolve(name))
    if beside is not None:
        yield "INT8, shipped calibration", quantise_by(model, read_calibration(beside), name, beside)
    if not methods:
        return
    spec = spec_of_model(model, name)
    crops = collect_faces(open_dataset(data, "teacher", split="seen"), samples, size=spec.input_size, crop_scale=spec.crop_scale)
    found = measure(model, crops, threads=threads)
    for method in methods:
        calibration = calibration_of(model, found, Method(method), name=name, source="seen", set_sha256=crops.digest)
        yield f"INT8, {method}", quantise_by(model, calibration, name, method)
        yield f"INT8, {method}, biases as they are", quantise_by(model, replace(calibration, corrections={}), name, method)


def size(model: onnx.ModelProto) -> int:
    """Bytes of the network's constants."""
    return sum(len(i.raw_data) or 4 * len(i.float_data) for i in model.graph.initializer if not i.name.startswith("decode/"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[m for m in SIZES if m in model_names()], metavar="MODEL")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--methods", nargs="*", default=[], metavar="M")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    unseen = list(open_dataset(args.data, "teacher", "300w", "unseen").faces)
    photos = [f"{args.data}/photos/{name}" for name in ("300w/test_300w.json", "wflw/test_wflw.json")]
    six = [face for path in photos for face in open_dataset(path, "mmpose", "300w").faces]
    print("| model | precision | unseen NME % | over FP32 | drift px, mean | p99 | six faces NME % | over FP32 | bytes % |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in args.models:
        model = onnx.load(resolve(name))
        judges = [Judge(model, faces, args.threads) for faces in (unseen, six)]
        whole = size(expand_weights(model))
        a, b = (100 * judge.reference.nme for judge in judges)
        print(f"| {name} | FP32 | {a:.3f} | | | | {b:.3f} | | 100 |", flush=True)
        for title, graph in graphs(name, model, args.data, args.samples, args.methods, args.threads):
            u, s = (judge(graph) for judge in judges)
            cost, other = 100 * u.nme - a, 100 * s.nme - b
            cells = f"{100 * u.nme:.3f} | {cost:+.3f} | {u.drift:.3f} | {u.drift_p99:.3f} | {100 * s.nme:.3f} | {other:+.3f}"
            print(f"| {name} | {title} | {cells} | {100 * size(graph) / whole:.0f} |", flush=True)


if __name__ == "__main__":
    main()
