"""NME of a model on the unseen set and on the six real faces; boxes from the landmarks.

    python benchmarks/accuracy.py [MODEL] [--data ../shared/data] [--json]

The unseen set: portraits and headshots whose number ends in 7, never trained on, against the teacher's points as they are.
The six real faces: 300W and WFLW photographs as 68 points, against their annotations.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from keyposs_trt import Landmarker
from keyposs_trt.evaluation import LabelledFace, Report, evaluate, read_mmpose_json
from keyposs_trt.training.synthesis.generate import find_portraits

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


def line(name: str, report: Report) -> str:
    parts = "  ".join(f"{k} {100 * v:.2f}" for k, v in report.parts.items())
    return f"{name:34s} {len(report.faces):4d} faces  NME {100 * report.nme:5.2f} %  FR@0.1 {100 * report.failure_rate:.1f} %  ({parts})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a model's name or file (default: the default model)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--validation", action="store_true", help="also the recipe's validation faces")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sets = {"unseen set": held_out(args.data), "six real faces": six_faces(args.data)}
    if args.validation:
        sets = {"validation": held_out(args.data, ("13", "53", "93")), **sets}
    with Landmarker.load(args.model, detector=None) as landmarker:
        rows = {name: evaluate(landmarker, faces) for name, faces in sets.items()}
        rows["six real faces, flip test"] = evaluate(landmarker, sets["six real faces"], flip_test=True)
    if args.json:
        print(json.dumps({k: {"nme": r.nme, "parts": r.parts, "failure_rate": r.failure_rate, "auc": r.auc} for k, r in rows.items()}))
    else:
        print("\n".join(line(k, r) for k, r in rows.items()))


if __name__ == "__main__":
    main()
