"""Heatmap networks of other tools: what their graph takes and gives, found by looking and by running it once on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.graph.metadata import shape_text
from keyposs_trt.graph.onnx_package import FLOAT, FLOAT16, copy_of, dimensions, names_of, opset, require_onnx
from keyposs_trt.graph.onnxruntime_package import first_line, session_errors, session_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray

TARGET_OPSET = 17  # the oldest that our preprocessing and decoder are written for
_FLOATS = {np.dtype(np.float32): FLOAT, np.dtype(np.float16): FLOAT16}


class ForeignNetwork:
    """A network from one float image [B, 3, S, S] to heatmaps [B, L, H, H], of any opset.

    Attributes:
        model: a copy of the graph, with the size of its input written in.
        image: name of the input.
        batch: B where the graph fixes it, or None.
        size: S in pixels.
    """

    def __init__(self, model: onnx.ModelProto, name: str, image: str | None = None, size: int | None = None) -> None:
        """Looks at a graph.

        Args:
            model: the graph.
            name: for messages.
            image: the input; None where there is one only.
            size: S where the graph leaves it free.

        Raises:
            ModelError: the graph is of another kind.
            UsageError: there is no such input, or it has another size.
        """
        if any(_is_external(t) for t in _constants(model.graph)):
            raise ModelError(
                f"The weights of '{name}' lie in another file; bring them into one first: onnx.save(onnx.load('MODEL.onnx'), 'ONE.onnx')."
            )
        self.model = copy_of(model)
        self.model.ir_version = max(self.model.ir_version, 8)  # before 4, weights had to be inputs as well
        self._name = name
        graph = self.model.graph
        constants = {i.name for i in graph.initializer}
        for value in [i for i in graph.input if i.name in constants]:  # old exporters list the weights among the inputs
            graph.input.remove(value)
        value = self._input(image)
        self.image: str = value.name
        self._half = value.type.tensor_type.elem_type == FLOAT16
        self.batch, self.size = self._shape(value, size)
        self._sessions: dict[tuple[str, ...], Any] = {}

    def heatmaps(self, name: str | None, images: NDArray[np.float32]) -> tuple[str, int, NDArray[Any]]:
        """The heatmaps of normalised images [N, 3, S, S], each run alone.

        Args:
            name: the tensor of heatmaps, an output or any other; None for the only output that can be one.
            images: as the network takes them.

        Returns:
            Its name, its element type, and the maps [N, L, H, H].

        Raises:
            ModelError: the network does not run, or the tensor is of another kind.
            UsageError: there is no such tensor, or no name is given and the choice is not clear.
        """
        outputs = [o.name for o in self.model.graph.output]
        if name is not None and name not in names_of(self.model.graph):
            raise UsageError(f"'{self._name}' has no tensor '{name}'; its outputs are {', '.join(outputs)}.")
        names = outputs if name is None else [name]
        runs = [self._run(names, image) for image in images]
        fitting = [n for n in names if _are_maps(runs[0][n], self.size)]
        if len(fitting) != 1:
            found = ", ".join(f"{n} {runs[0][n].dtype} {shape_text([None, *runs[0][n].shape[1:]])}" for n in names)
            remedy = "name the one to take" if fitting else f"with H at most {self.size} here, so name the tensor that is"
            raise UsageError(f"'{self._name}' gives {found}; heatmaps are float32 or float16 [N, L, H, H]: {remedy} (--heatmaps).")
        maps = np.concatenate([run[fitting[0]][:1] for run in runs])
        return fitting[0], _FLOATS[maps.dtype], maps

    def _input(self, image: str | None) -> onnx.ValueInfoProto:
        inputs = {i.name: i for i in self.model.graph.input}
        listed = ", ".join(f"{n} {shape_text(dimensions(v))}" for n, v in inputs.items()) or "none"
        if image is not None and image not in inputs:
            raise UsageError(f"'{self._name}' has no input '{image}'; its inputs are {listed}.")
        if len(inputs) != 1:
            raise ModelError(f"A heatmap network takes one image; '{self._name}' takes {listed}: export it so.")
        return next(iter(inputs.values()))

    def _shape(self, value: onnx.ValueInfoProto, size: int | None) -> tuple[int | None, int]:
        """Batch and side of the input; a free side becomes ``size``."""
        shape = dimensions(value)
        kind = value.type.tensor_type.elem_type
        wrong = f"'{self._name}' takes {value.name} {shape_text(shape)}; it must take float32 or float16 [N, 3, S, S]: export it so."
        if kind not in (FLOAT, FLOAT16) or len(shape) != 4 or shape[1] not in (3, None):
            raise ModelError(wrong)
        sides = {s for s in shape[2:] if s is not None}
        if size is not None and sides - {size}:
            raise UsageError(f"The crops of '{self._name}' are {' x '.join(map(str, shape[2:]))} pixels, not {size}; leave the size out.")
        if size is not None:
            sides = {size}
        if not sides:
            raise UsageError(f"'{self._name}' leaves the size of its crops free; say which it was trained with (--input-size).")
        if len(sides) != 1 or min(sides) < 1:
            raise ModelError(wrong)
        (side,) = sides
        for i, n in enumerate((3, side, side), 1):
            value.type.tensor_type.shape.dim[i].dim_value = n
        return shape[0] or None, side

    def _run(self, names: list[str], image: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Tensors by name for one image [3, S, S]."""
        key = tuple(names)
        if key not in self._sessions:
            watched = copy_of(self.model)
            del watched.graph.output[:]
            watched.graph.output.extend(require_onnx().helper.make_empty_tensor_value_info(n) for n in names)
            self._sessions[key] = session_in_memory(watched.SerializeToString(), self._name)
        batch = np.repeat(image[None].astype(np.float16 if self._half else np.float32), self.batch or 1, 0)
        try:
            values = self._sessions[key].run(names, {self.image: batch})
        except session_errors() as e:
            raise ModelError(f"ONNX Runtime cannot run '{self._name}' ({first_line(e)}); export it again.") from e
        return dict(zip(names, map(np.asarray, values), strict=True))


def upgraded(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model in opset 17, or as it is where that is newer.

    Raises:
        ModelError: onnx cannot convert it.
    """
    onnx = require_onnx()
    old = opset(model)
    if old >= TARGET_OPSET:
        return model
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, TARGET_OPSET)
    except (version_converter.ConvertError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as e:
        why = (str(e).strip().splitlines() or [type(e).__name__])[0].rstrip(".")
        raise ModelError(f"'{name}' is of opset {old} and cannot be brought to {TARGET_OPSET} ({why}); export it with that opset.") from e


def _are_maps(values: NDArray[Any], size: int) -> bool:
    return values.dtype in _FLOATS and values.ndim == 4 and values.shape[2] == values.shape[3] and 1 <= values.shape[3] <= size


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All constant tensors of a graph and its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _constants(attribute.g)


def _is_external(constant: onnx.TensorProto) -> bool:
    return constant.HasField("data_location") and constant.data_location == constant.EXTERNAL
