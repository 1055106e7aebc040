"""What INT8 costs by calibration alone and by quantisation-aware training: NME on the same faces, and how far the landmarks move.

    python benchmarks/qat.py FLOAT.ckpt QAT.ckpt [MORE.ckpt ...] [--heatmap S] [--faces validation|unseen] [--data ../shared/data]

FLOAT is a checkpoint of rendered views; every model is compared with it in float32. It is calibrated on portraits that its recipe trains
on, once for all methods. A further checkpoint is measured as it exports: as INT8 where it was trained for that, else in float32.
Boxes are those around the landmarks, truth is the teacher's own points. validation: the portraits that the recipe validates on;
unseen: names ending in 7, which no training and no choice has looked at. INT8 is computed as TensorRT does, on the CPU: accuracy, not
speed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from keyposs_trt.calibration.corrections import bias_corrections
from keyposs_trt.calibration.judge import Judge, Verdict
from keyposs_trt.calibration.measure import measure
from keyposs_trt.calibration.methods import METHODS, range_of
from keyposs_trt.calibration.sets import CalibrationSet, collect_faces
from keyposs_trt.datasets import open_dataset
from keyposs_trt.graph import quantise, spec_of_model, to_fp16
from keyposs_trt.training.checkpoint import load_checkpoint
from keyposs_trt.training.export import to_int8, to_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from keyposs_trt.datasets import Dataset, Face
    from keyposs_trt.training.recipe import Recipe


def portraits(recipe: Recipe, data: Path) -> dict[str, list[Dataset]]:
    """The portraits of a recipe by what they are for."""
    d = recipe.data
    found: dict[str, list[Dataset]] = {"training": [], "validation": [], "unseen": []}
    for folder in d.portraits:
        whole = open_dataset(data / folder, "teacher")

        def use(face: Face) -> str:
            stem = Path(face.image_name).stem
            return "unseen" if stem.endswith(d.hold_out) else "validation" if stem.endswith(d.validation) else "training"

        for name, parts in found.items():
            parts.append(replace(whole, faces=[face for face in whole.faces if use(face) == name]))
    return found


def calibration_crops(parts: list[Dataset], model: onnx.ModelProto, count: int) -> CalibrationSet:
    """``count`` crops for a model, drawn from all parts together."""
    spec = spec_of_model(model, "the model")
    together = replace(parts[0], path=parts[0].path.parent, faces=[face for part in parts for face in part.faces])
    return collect_faces(together, count, size=spec.input_size, crop_scale=spec.crop_scale)


def calibrated(model: onnx.ModelProto, crops: CalibrationSet, threads: int) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The model in INT8, by each way to calibrate."""
    found = measure(model, crops, threads=threads)
    for method in METHODS:
        ranges = {name: range_of(h, method) for name, h in found.histograms.items()}
        yield f"INT8, calibrated ({method})", quantise(model, ranges)
        if method == "mse":
            yield (
                f"INT8, calibrated ({method}), biases corrected",
                quantise(model, ranges, corrections=bias_corrections(model, found.means)),
            )


def line(name: str, verdict: Verdict, reference: Verdict) -> str:
    """A row of the table."""
    more = 100 * (verdict.nme - reference.nme)
    return f"| {name} | {100 * verdict.nme:.3f} | {more:+.3f} | {verdict.drift:.3f} | {verdict.drift_p99:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--heatmap", type=int)
    parser.add_argument("--faces", choices=("validation", "unseen"), default="validation")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    modules = {path: load_checkpoint(path) for path in args.checkpoints}
    first = next(iter(modules.values()))
    parts = portraits(first.recipe, args.data)
    full = to_onnx(first, heatmap=args.heatmap)
    judge = Judge(full, [face for part in parts[args.faces] for face in part.faces], args.threads)
    print(f"{judge.faces} faces ({args.faces}), {args.samples} calibration crops")
    print("| model | NME % | over FP32 | drift, crop pixels | 99 % below |\n|---|---|---|---|---|")
    print(line("FP32", judge.reference, judge.reference), flush=True)
    print(line("FP16", judge(to_fp16(full)), judge.reference), flush=True)
    for name, model in calibrated(full, calibration_crops(parts["training"], full, args.samples), args.threads):
        print(line(name, judge(model), judge.reference), flush=True)
    for path, module in list(modules.items())[1:]:
        model = to_onnx(module, heatmap=args.heatmap)
        name = f"FP32, {path.parent.name}"
        if module.fake is not None:
            name, model = f"INT8, {path.parent.name}", to_int8(module, heatmap=args.heatmap)
        print(line(name, judge(model), judge.reference), flush=True)


if __name__ == "__main__":
    main()
