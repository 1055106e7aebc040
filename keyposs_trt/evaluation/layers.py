"""Where in a network two precisions part: each layer's output in both, by Polygraphy's comparator."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.engine.onnx_file import load_graph
from keyposs_trt.errors import BackendError
from keyposs_trt.graph import detach_decoder, expand_weights
from keyposs_trt.graph.contract import INPUT
from keyposs_trt.graph.onnx_package import FLOAT, PREPROCESS, element_types
from keyposs_trt.graph.onnxruntime_package import first_line, session_errors, session_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LayerDrift:
    """What one layer gives in two precisions.

    Attributes:
        layer: name of the node.
        operator: its type.
        tensor: its output.
        relative: root mean square of the difference over that of the reference.
        mean, largest: of the absolute difference.
    """

    layer: str
    operator: str
    tensor: str
    relative: float
    mean: float
    largest: float


def layer_drift(reference: Path, other: Path, crops: NDArray[np.uint8], threads: int | None = None) -> list[LayerDrift]:
    """How far the layers of two graphs of one network lie apart, in the order of the network, from input to heatmaps.

    Args:
        reference: an FP32 model of this toolkit.
        other: the same network in another precision, its tensors float32 and of the same names (a twin).
        crops: [N, S, S, 3] uint8 RGB; few, as all tensors are held in memory.
        threads: CPU threads; None for all cores.

    Raises:
        BackendError: Polygraphy is not installed, or ONNX Runtime failed.
    """
    polygraphy = _Polygraphy()
    graphs = [_network(path) for path in (reference, other)]
    nodes = {n.output[0]: n for n in graphs[0].graph.node if n.op_type != "Constant" and not n.name.startswith(PREPROCESS)}
    types = [element_types(graph) for graph in graphs]
    shared = [name for name in nodes if all(kinds.get(name) == FLOAT for kinds in types)]
    found: list[LayerDrift] = []

    def compare(first: Any, second: Any) -> OrderedDict[str, bool]:
        """Of one iteration by both runners, as Polygraphy wants it."""
        for name in shared:
            a, b = (np.asarray(result[name], np.float64) for result in (first, second))
            found.append(_difference(nodes[name], name, a, b))
        return OrderedDict((name, True) for name in shared)

    with polygraphy.quiet():
        runners = [
            polygraphy.runner(_session(polygraphy.marked(graph, shared), path, threads), name)
            for graph, path, name in zip(graphs, (reference, other), ("reference", "other"), strict=True)
        ]
        try:
            results = polygraphy.comparator.run(runners, data_loader=[{INPUT: crops}])
        except session_errors() as e:
            raise BackendError(f"ONNX Runtime failed on the layers of '{other.name}' ({first_line(e)}); compare without --layers.") from e
        polygraphy.comparator.compare_accuracy(results, compare_func=compare)
    return found


def require_polygraphy() -> None:
    """To be asked before minutes of work; BackendError where it is not installed."""
    _Polygraphy()


class _Polygraphy:
    """What is used of the package."""

    def __init__(self) -> None:
        try:
            from polygraphy.backend.onnx import ModifyOutputs
            from polygraphy.backend.onnxrt import OnnxrtRunner
            from polygraphy.comparator import Comparator
            from polygraphy.logger import G_LOGGER
        except ImportError as e:
            raise BackendError("The drift by layer is measured with Polygraphy, which is not installed: pip install polygraphy.") from e
        self._modify: Any = ModifyOutputs
        self.runner: Any = OnnxrtRunner
        self.comparator: Any = Comparator
        self._logger: Any = G_LOGGER

    def marked(self, graph: onnx.ModelProto, names: list[str]) -> bytes:
        """The graph with these tensors as its outputs."""
        return self._modify(graph, outputs=names)().SerializeToString()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Without its log, which is one line a tensor and more."""
        with self._logger.verbosity(self._logger.CRITICAL):
            yield


def _network(path: Path) -> onnx.ModelProto:
    """Without the decoder, whose tensors mean nothing to a reader."""
    return expand_weights(detach_decoder(load_graph(path)))


def _session(model: bytes, path: Path, threads: int | None) -> Any:
    return session_in_memory(model, path, threads, exact=True)


def _difference(node: onnx.NodeProto, name: str, reference: NDArray[np.float64], other: NDArray[np.float64]) -> LayerDrift:
    apart = np.abs(other - reference)
    size = float(np.sqrt(np.square(reference).mean()))
    error = float(np.sqrt(np.square(apart).mean()))
    relative = error / size if size else (0.0 if error == 0 else float("inf"))
    return LayerDrift(node.name or name, node.op_type, name, relative, float(apart.mean()), float(apart.max()))
