"""What the shipped models cost side by side: file, parameters, multiply-adds, milliseconds of the whole graph at batch 1.

    python benchmarks/family.py [MODEL ...] [--threads 1 2] [--repeat 300] [--json]

The models take turns, one run each (A B C ... A B C ...), so that the machine's moods fall on all alike; medians, p90 in brackets.
Multiply-adds are those of the convolutions.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from keyposs_trt.engine.session import open_session
from keyposs_trt.graph import read_spec
from keyposs_trt.graph.contract import INPUT
from keyposs_trt.models import model_names, resolve

if TYPE_CHECKING:
    from pathlib import Path


def cost(path: Path) -> dict[str, Any]:
    """Bytes, parameters of the network, and multiply-adds for one face."""
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    sources = {o: n.input[0] for n in model.graph.node if n.op_type == "Cast" for o in n.output}  # weights stored as float16
    macs = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            kernel = weights[sources.get(node.input[1], node.input[1])]
            macs += kernel.size * int(np.prod(shapes[node.output[0]][2:]))
    parameters = sum(w.size for name, w in weights.items() if not name.startswith(("decode/", "preprocess/")) and w.dtype.kind == "f")
    return {"MB": path.stat().st_size / 1e6, "parameters": parameters, "macs": macs}


def times(models: list[str], threads: int, repeat: int) -> dict[str, list[float]]:
    """Milliseconds of each run of each model, which take turns."""
    sessions = {m: open_session(resolve(m), threads=threads) for m in models}
    crops = {}
    for m in models:
        size = read_spec(resolve(m)).input_size
        crops[m] = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(np.uint8)
    found: dict[str, list[float]] = {m: [] for m in models}
    for turn in range(repeat + 10):
        for m in models:
            start = time.perf_counter()
            sessions[m].run(None, {INPUT: crops[m]})
            if turn >= 10:
                found[m].append(1e3 * (time.perf_counter() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = sorted(model_names(), key=lambda name: -read_spec(resolve(name)).heatmap_size)
    parser.add_argument("models", nargs="*", default=default, metavar="MODEL", help="names or files (default: all shipped models)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {m: cost(resolve(m)) for m in args.models}
    for threads in args.threads:
        for m, values in times(args.models, threads, args.repeat).items():
            rows[m][f"ms, {threads} threads"] = {"p50": float(np.median(values)), "p90": float(np.percentile(values, 90))}
    if args.json:
        print(json.dumps(rows))
        return
    for m, row in rows.items():
        taken = "   ".join(f"{k} {v['p50']:.2f} ({v['p90']:.2f})" for k, v in row.items() if isinstance(v, dict))
        print(
            f"{m:12s} {row['MB']:.2f} MB   {row['parameters'] / 1e6:.2f} M parameters   {row['macs'] / 1e6:6.1f} M multiply-adds   {taken}"
        )
    print(f"all files: {sum(r['MB'] for r in rows.values()):.2f} MB")


if __name__ == "__main__":
    main()
