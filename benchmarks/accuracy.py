"""NME of models on the unseen set and on the six real faces, and how often their ellipses hold the errors; boxes from the landmarks.

    python benchmarks/accuracy.py [MODEL ...] [--data ../shared/data] [--fp16] [--json]

The unseen set: portraits and headshots whose number ends in 7, never trained on, against the teacher's points as they are.
With --fp16 also how far the model cast to FP16 moves from it there, in crop pixels (ONNX Runtime on the CPU: accuracy, not speed).
The six real faces: 300W and WFLW photographs as 68 points, against their annotations.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from keyposs_trt import Landmarker
from keyposs_trt.evaluation import LabelledFace, Report, evaluate, read_mmpose_json
from keyposs_trt.evaluation.measure import predict
from keyposs_trt.geometry import square_of_box
from keyposs_trt.graph import rounded, save_model, to_fp16
from keyposs_trt.models import DEFAULT, resolve
from keyposs_trt.training.synthesis.generate import find_portraits
from keyposs_trt.training.uncertainty import mahalanobis_squared, radius_squared

SCHEME = "300w"


def held_out(data: Path, ending: tuple[str, ...] = ("7",)) -> list[LabelledFace]:
    """The portraits and headshots whose name ends so, with the teacher's points."""
    folders = (data / "headshots", data / "portraits")
    return [LabelledFace.from_points(p.path, p.points) for f in folders for p in find_portraits(f, ending, held=True)]


def six_faces(data: Path) -> list[LabelledFace]:
    """The two faces of 300W and the four of WFLW."""
    return read_mmpose_json(data / "photos/300w/test_300w.json", SCHEME) + read_mmpose_json(
        data / "photos/wflw/test_wflw.json", "wflw", as_scheme=SCHEME
    )


def coverage(landmarker: Landmarker, faces: list[LabelledFace]) -> float:
    """Share of all landmarks whose error lies within the 68 % ellipse of the predicted covariance."""
    inside = []
    for face in faces:
        found = landmarker(face.read_image(), face.box[None])[0]
        inside.append(mahalanobis_squared(found.points - face.points, found.covariance) <= radius_squared())
    return float(np.mean(inside))


def fp16(model: Path, faces: list[LabelledFace]) -> tuple[Report, dict[str, float]]:
    """The report of a model cast to FP16, and how far its landmarks lie from the model's own."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        cast = Path(folder) / "fp16.onnx"
        save_model(rounded(to_fp16(onnx.load(model))), cast)  # ONNX Runtime would drop the roundings between layers
        with Landmarker.load(model, detector=None) as full, Landmarker.load(cast, detector=None) as half:
            sides = square_of_box(np.stack([f.box for f in faces]), full.spec.crop_scale)[:, 2]
            moved = np.linalg.norm(predict(full, faces) - predict(half, faces), axis=-1) * (full.spec.input_size / sides)[:, None]
            drift = {"mean": float(moved.mean()), "p99": float(np.quantile(moved, 0.99)), "max": float(moved.max())}
            return evaluate(half, faces), drift


def measure(model: str, sets: dict[str, list[LabelledFace]], with_fp16: bool) -> dict[str, Any]:
    """All figures of one model."""
    with Landmarker.load(model, detector=None) as landmarker:
        reports = {name: evaluate(landmarker, faces) for name, faces in sets.items()}
        reports["six real faces, flip test"] = evaluate(landmarker, sets["six real faces"], flip_test=True)
        inside = {name: coverage(landmarker, faces) for name, faces in sets.items()}
    drift = None
    if with_fp16:
        reports["unseen set, FP16"], drift = fp16(resolve(model), sets["unseen set"])
    return {"reports": reports, "inside the 68 % ellipse": inside, "fp16 drift in crop pixels": drift}


def line(name: str, report: Report) -> str:
    parts = "  ".join(f"{k} {100 * v:.2f}" for k, v in report.parts.items())
    return f"{name:34s} {len(report.faces):4d} faces  NME {100 * report.nme:5.2f} %  FR@0.1 {100 * report.failure_rate:.1f} %  ({parts})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[DEFAULT], metavar="MODEL", help="names or files (default: the default model)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--validation", action="store_true", help="also the recipe's validation faces")
    parser.add_argument("--fp16", action="store_true", help="also the models cast to FP16")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sets = {"unseen set": held_out(args.data), "six real faces": six_faces(args.data)}
    if args.validation:
        sets = {"validation": held_out(args.data, ("13", "53", "93")), **sets}
    found = {model: measure(model, sets, args.fp16) for model in args.models}
    if args.json:
        for figures in found.values():
            reports = figures.pop("reports")
            figures |= {k: {"nme": r.nme, "parts": r.parts, "failure_rate": r.failure_rate, "auc": r.auc} for k, r in reports.items()}
        print(json.dumps(found))
        return
    for model, figures in found.items():
        print(model)
        print("\n".join("  " + line(k, r) for k, r in figures["reports"].items()))
        print("  inside the 68 % ellipse: " + ", ".join(f"{k} {100 * v:.0f} %" for k, v in figures["inside the 68 % ellipse"].items()))
        if drift := figures["fp16 drift in crop pixels"]:
            print("  FP16 against FP32, crop pixels: " + ", ".join(f"{k} {v:.4f}" for k, v in drift.items()))


if __name__ == "__main__":
    main()
