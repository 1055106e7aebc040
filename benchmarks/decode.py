"""Decoders compared: their error on simulated maps and their time, everything in one run.

    python benchmarks/decode.py [--count 2000] [--margin 0.15] [--only errors|parameters|times] [--plot FILE] [--json FILE] [--threads 1]
    python benchmarks/decode.py --gpu HARNESS PLUGIN      the kernel on this machine's GPU, through the plugin's harness (docs/plugin.md)

Errors are the mean distance in pixels of a 256-pixel crop, for every decoder of ``keyposs_trt.decode``, kind of map
(benchmarks/simulated_maps.py) and size; * marks those within 5 % of the best of their column. Times are medians of runs that take
turns, in milliseconds for one batch: the vectorised decoders in NumPy, the default also as ONNX operators in ONNX Runtime, in PyTorch
and as the C++ header on one core, and published ones as plain loops over maps (benchmarks/plain_loops.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from keyposs_trt.decode import Decoded

    Decode = Callable[[NDArray[Any]], Decoded]

GOOD = 1.05  # of the best
BATCHES = ((68, 1), (68, 32), (98, 1), (98, 32))
TIMED_SIZES = (64, 16, 4)
BURST = 5  # runs a turn
SLOW = 0.1  # seconds: what takes longer has 3 turns of one run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="maps per error (default %(default)s)")
    parser.add_argument("--margin", type=float, default=0.15, help="share of each side of the crop without landmarks (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("errors", "parameters", "times"), help="one part of it")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=20, help="turns per time, of 5 runs (default %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw error against size as PNG or SVG (needs matplotlib)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--gpu", type=Path, nargs=2, metavar=("HARNESS", "PLUGIN"), help="microseconds and bandwidth of the kernel instead")
    args = parser.parse_args()
    if args.gpu:
        return time_on_gpu(*args.gpu)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(args.threads)  # before NumPy is imported
    result: dict[str, Any] = {"count": args.count, "margin": args.margin, "seed": args.seed, "threads": args.threads}
    if args.only in (None, "errors"):
        result["errors"] = errors(args.count, args.margin, args.seed)
        print_errors(result["errors"])
        if args.plot:
            plot(result["errors"], args.plot)
    if args.only in (None, "parameters"):
        result["parameters"] = errors(args.count, args.margin, args.seed, variants())
        print_errors(result["parameters"])
    if args.only in (None, "times"):
        result["times"] = times(args.threads, args.repeat)
        print_times(result["times"])
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
    return 0


def errors(count: int, margin: float, seed: int, decoders: Mapping[str, Decode] | None = None) -> dict[str, dict[str, list[float]]]:
    """Mean error in crop pixels: of a kind of map and a decoder, all of the package unless given, one number a size."""
    import numpy as np
    from simulated_maps import CROP, MODELS, SIZES, simulate

    from keyposs_trt.decode import DECODERS, decode

    decoders = decoders or {name: partial(decode, decoder=name) for name in DECODERS}
    found: dict[str, dict[str, list[float]]] = {}
    for kind, model in MODELS.items():
        rows: dict[str, list[float]] = {name: [] for name in decoders}
        for size in SIZES:
            maps, points = simulate(model, size, count, margin, seed)
            for name, run in decoders.items():
                distance = np.linalg.norm(run(maps).points - points, axis=-1)
                rows[name].append(float(distance.mean()) * CROP / size)
        found[kind] = rows
    return found


def variants() -> dict[str, Decode]:
    """The default with other windows and priors."""
    from keyposs_trt.decode import wls

    settings = [{}, *({"radius": r} for r in (2, 3, 4, 7)), *({"prior": p} for p in (0.0, 0.005, 0.05, 0.5, float("inf")))]
    return {", ".join(f"{k} {v:g}" for k, v in s.items()) or "default": partial(wls, **s) for s in settings}


def print_errors(found: dict[str, dict[str, list[float]]]) -> None:
    from simulated_maps import DESCRIPTIONS, SIZES

    print("| maps | decoder | " + " | ".join(map(str, SIZES)) + " |")
    print("|---" * (2 + len(SIZES)) + "|")
    for kind, rows in found.items():
        best = [min(column) for column in zip(*rows.values(), strict=True)]
        for name, row in rows.items():
            cells = [f"{e:.3g}{'*' if e <= GOOD * b else ''}" for e, b in zip(row, best, strict=True)]
            print(f"| {kind} | {name} | " + " | ".join(cells) + " |")
    print()
    for kind, words in DESCRIPTIONS.items():
        print(f"{kind}: {words}")
    print()


def plot(found: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Error against the side of the map, one panel a kind of map."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from simulated_maps import SIZES

    kinds = [kind for kind in found if kind != "clean"]
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.2), sharex=True, sharey=True, layout="constrained")
    for axis, kind in zip(axes.flat, kinds, strict=True):
        for name, row in found[kind].items():
            style = {"linewidth": 3, "color": "black", "zorder": 9} if name == "wls" else {"linewidth": 1.2}
            axis.plot(range(len(SIZES)), row, marker="o", markersize=3, label=name, **style)
        axis.set_title(kind)
        axis.set_yscale("log")
        axis.set_xticks(range(len(SIZES)), [str(s) for s in SIZES])
        axis.grid(alpha=0.3, which="both")
    figure.supxlabel("side of the map, heatmap pixels")
    figure.supylabel("mean error, pixels of a 256-pixel crop")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(file, dpi=90)


def times(threads: int, repeat: int) -> list[dict[str, Any]]:
    """Median seconds of every implementation by size, landmarks and batch."""
    from simulated_maps import MODELS, simulate

    rows = []
    for size in TIMED_SIZES:
        for points, batch in BATCHES:
            maps = simulate(MODELS["widened"], size, points * batch)[0].reshape(batch, points, size, size)
            runs = implementations(maps, threads, loops=batch == 1)
            rows += [
                {"implementation": name, "size": size, "points": points, "batch": batch, "seconds": seconds}
                for name, seconds in take_turns(runs, repeat).items()
            ]
    return rows


def implementations(maps: NDArray[Any], threads: int, loops: bool) -> dict[str, Callable[[], object]]:
    """What decodes these maps [N, L, S, S], by name; packages that are not installed are left out."""
    import plain_loops

    from keyposs_trt.decode import DECODERS, decode

    runs: dict[str, Callable[[], object]] = {f"{name} (NumPy)": partial(decode, maps, name) for name in DECODERS}
    for make in (onnx_runtime, pytorch, header):
        runs |= make(maps, threads)
    if loops:
        for name in ("gn", "lls", "dark"):
            runs[f"{name} (loops)"] = partial(plain_loops.loop, getattr(plain_loops, name), maps[0])
    return runs


def onnx_runtime(maps: NDArray[Any], threads: int) -> dict[str, Callable[[], object]]:
    try:
        import onnx
    except ImportError:
        return {}
    import onnxruntime

    from keyposs_trt.decode.onnx_fragment import OUTPUTS, wls_fragment

    _, points, size, _ = maps.shape
    fragment = wls_fragment("heatmaps", size=size, stride=256 / size, grid="half_pixel")
    value = onnx.helper.make_tensor_value_info
    outputs = [value(name, 1, ["N", points, *tail]) for name, tail in zip(OUTPUTS, ([2], [], [3]), strict=True)]
    inputs = [value("heatmaps", 1, ["N", points, size, size])]
    graph = onnx.helper.make_graph(fragment.nodes, "decoder", inputs, outputs, fragment.initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {"wls (ONNX Runtime)": lambda: session.run(None, {"heatmaps": maps})}


def pytorch(maps: NDArray[Any], threads: int) -> dict[str, Callable[[], object]]:
    try:
        import torch
    except ImportError:
        return {}
    from keyposs_trt.decode.torch_wls import wls

    torch.set_num_threads(threads)
    tensor = torch.from_numpy(maps)

    def backward() -> None:
        leaf = tensor.clone().requires_grad_()
        wls(leaf).points.sum().backward()

    return {"wls (PyTorch)": lambda: wls(tensor), "wls and its gradient (PyTorch)": backward}


def header(maps: NDArray[Any], threads: int) -> dict[str, Callable[[], object]]:
    """The C++ header, compiled on the spot where there is a compiler; it uses one core whatever ``threads`` says."""
    import ctypes

    import numpy as np

    from keyposs_trt.decode.multilateration import PRIOR, RADIUS

    del threads
    library = host_library()
    if library is None:
        return {}
    count, size = maps.shape[0] * maps.shape[1], maps.shape[-1]
    outputs = [np.empty((count, k), np.float32) for k in (2, 1, 3)]
    numbers = ctypes.c_int64(count), size, size, ctypes.c_float(2), RADIUS, ctypes.c_float(PRIOR)

    def run() -> None:
        library.keyposs_wls(ctypes.c_void_p(maps.ctypes.data), *numbers, *(ctypes.c_void_p(a.ctypes.data) for a in outputs))

    return {"wls (C++)": run}


@cache
def host_library() -> Any:
    import ctypes

    source = Path(__file__).resolve().parent.parent / "plugins/multilateration/host.cpp"
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "host.so"
        command = ["c++", "-std=c++17", "-O2", "-shared", "-fPIC", str(source), "-o", str(built)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return ctypes.CDLL(str(built))


def take_turns(runs: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median seconds of each. They take turns, as the machine changes; a turn is one run to warm the caches and a few that count."""
    import numpy as np

    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeat):
        for name, run in runs.items():
            slow = bool(taken[name]) and min(taken[name]) > SLOW
            if slow and turn > 2:
                continue
            if not slow:
                run()
            for _ in range(1 if slow else BURST):
                start = time.perf_counter()
                run()
                taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in taken.items()}


def print_times(rows: list[dict[str, Any]]) -> None:
    cases = [(size, points, batch) for size in TIMED_SIZES for points, batch in BATCHES]
    print("| ms | " + " | ".join(f"{b} x {p} x {s}x{s}" for s, p, b in cases) + " |")
    print("|---" * (1 + len(cases)) + "|")
    table = {(r["implementation"], r["size"], r["points"], r["batch"]): 1000 * r["seconds"] for r in rows}
    for name in dict.fromkeys(r["implementation"] for r in rows):
        cells = [table.get((name, *case)) for case in cases]
        print(f"| {name} | " + " | ".join("" if c is None else f"{c:.3g}" for c in cells) + " |")
    default = table["wls (NumPy)", 64, 98, 1]
    print(
        f"\n98 landmarks at 64x64: wls takes {default:.2f} ms, of which the argmax is {table['argmax (NumPy)', 64, 98, 1] / default:.0%}."
    )
    for name in ("lls", "gn", "dark"):
        print(f"{name} as a plain loop takes {table[f'{name} (loops)', 64, 98, 1] / default:.1f} times as long.")


def time_on_gpu(harness: Path, plugin: Path) -> int:
    for file in (harness, plugin):
        if not file.is_file():
            sys.stderr.write(f"error: There is no '{file}'; build the plugin and its harness as docs/plugin.md says.\n")
            return 2
    return subprocess.run([str(harness.resolve()), str(plugin.resolve())], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
