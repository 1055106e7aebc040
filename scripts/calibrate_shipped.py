"""Calibrates the shipped models: ``NAME.calibration.json`` beside each, so that their INT8 engines need no images.

    python scripts/calibrate_shipped.py [MODEL ...] [--data ../shared/data]

Ranges by mse over 512 portraits and headshots that the models were trained on, as the runtime crops them; layers are kept in FP16 until
the NME on 128 of the same faces is within 0.05 points of FP32. The unseen set takes no part: benchmarks/int8.py measures on it.
Histograms are left out of the files, which makes them small.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx
from tqdm import tqdm

from keyposs_trt.calibration import collect_faces
from keyposs_trt.calibration.inputs import Source, labelled_faces
from keyposs_trt.calibration.judge import Judge
from keyposs_trt.calibration.run import Method, calibrate
from keyposs_trt.calibration.sensitivity import decide, trade
from keyposs_trt.datasets import open_dataset
from keyposs_trt.graph.calibration_file import SUFFIX, write_calibration
from keyposs_trt.graph.metadata import spec_of_model
from keyposs_trt.models import model_names, resolve

SAMPLES, FACES, TOLERANCE = 512, 128, 0.05
SOURCE = "portraits and headshots seen in training"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=model_names(), metavar="MODEL", help="short names (default: all shipped models)")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="another folder than that of the models")
    args = parser.parse_args()
    dataset = open_dataset(args.data, "teacher", split="seen")
    for name in args.models:
        path = resolve(name)
        model = onnx.load(path)
        spec = spec_of_model(model, name)
        crops = collect_faces(dataset, SAMPLES, size=spec.input_size, crop_scale=spec.crop_scale)
        calibration = calibrate(model, crops, Method("mse"), name=name, source=SOURCE, threads=args.threads)
        judge = Judge(model, labelled_faces(Source(args.data, "teacher", "seen"), spec, FACES), args.threads)
        with tqdm(desc=name, unit="model", leave=False, file=sys.stderr) as bar:
            decision = decide(model, calibration, judge, TOLERANCE, name=name, progress=lambda done, _, bar=bar: bar.update(done - bar.n))
        print(name)
        print("\n".join(trade(decision)))
        write_calibration(decision.applied_to(calibration, SOURCE), (args.out or path.parent) / f"{name}{SUFFIX}", histograms=False)


if __name__ == "__main__":
    main()
