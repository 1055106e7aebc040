"""A model's graph in two halves, the network and the decoder, so that each can be timed by itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.runner import Outputs, decode_heatmaps
from keyposs_trt.engine.session import open_session
from keyposs_trt.graph.contract import HEATMAPS, INPUT, OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.graph.contract import ModelSpec


@dataclass(frozen=True)
class Halves:
    """What follows one another in a model.

    Attributes:
        network: crops [N, S, S, 3] uint8 to heatmaps [N, L, H, H].
        decode: those heatmaps to the three outputs.
    """

    network: Callable[[NDArray[np.uint8]], Any]
    decode: Callable[[Any], Outputs]


def split(path: Path, spec: ModelSpec, threads: int | None = None) -> Halves | None:
    """The halves of an ONNX model in ONNX Runtime on the CPU, with the settings of its runner.

    Args:
        path: the ONNX file.
        spec: what it says of itself.
        threads: CPU threads; None for all cores.

    Returns:
        None where the onnx package, which cuts the decoder off, is not installed, or the graph does not name its heatmaps.
    """
    exact = spec.precision == "int8"  # as the runner computes it
    if spec.decoder == "none":
        session = open_session(path, threads=threads, exact=exact)
        return Halves(lambda crops: session.run([HEATMAPS], {INPUT: crops})[0], lambda maps: decode_heatmaps(maps, spec))
    if find_spec("onnx") is None:
        return None
    with TemporaryDirectory() as folder:
        if not cut_at_heatmaps(path, Path(folder)):
            return None
        head, tail = (open_session(Path(folder, name), threads=threads, exact=exact) for name in ("head.onnx", "tail.onnx"))

    def decode(maps: Any) -> Outputs:
        outputs: Any = tail.run(list(OUTPUTS), {HEATMAPS: maps})
        return Outputs(*outputs)

    return Halves(lambda crops: head.run([HEATMAPS], {INPUT: crops})[0], decode)


def cut_at_heatmaps(path: Path, folder: Path) -> bool:
    """Writes ``head.onnx`` and ``tail.onnx``: the graph before and after its tensor ``heatmaps``; needs the onnx package.

    Returns:
        Whether there is such a tensor.
    """
    import onnx
    from onnx.utils import Extractor

    model = onnx.load(str(path))
    known = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    if HEATMAPS not in known:
        return False
    if HEATMAPS not in {v.name for v in model.graph.value_info}:
        model.graph.value_info.append(known[HEATMAPS])
    extractor = Extractor(model)
    onnx.save(extractor.extract_model([INPUT], [HEATMAPS]), str(folder / "head.onnx"))
    onnx.save(extractor.extract_model([HEATMAPS], list(OUTPUTS)), str(folder / "tail.onnx"))
    return True
