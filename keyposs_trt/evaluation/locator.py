"""A model whose landmarks are decoded in several ways: its own, and any decoder on its heatmaps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.crop import crop_faces
from keyposs_trt.decode import DECODERS, decode
from keyposs_trt.engine.runner import PLAN_SUFFIXES
from keyposs_trt.errors import BackendError, ModelError, UsageError
from keyposs_trt.geometry import invert, square_of_box, transform
from keyposs_trt.graph.contract import HEATMAPS, INPUT
from keyposs_trt.landmarker import Landmarker
from keyposs_trt.models import resolve
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from keyposs_trt.graph.contract import ModelSpec

OWN = "model"
_OF_MODEL = ("wls", "wls_known")  # take the radius and the prior of the model's own decoder


def decoder_names() -> list[str]:
    """What ``open_locator`` decodes by: the model's own way, and every decoder."""
    return [OWN, *DECODERS]


class HeatmapNetwork:
    """An ONNX model without its decoder, in ONNX Runtime: crops to heatmaps.

    Attributes:
        spec: of the model as it was.
        provider: ONNX Runtime's execution provider.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None, gpu: bool = False) -> None:
        """Loads the model, whatever its decoder, TensorRT's plugin included.

        Raises:
            UsageError: the file is an engine, whose heatmaps cannot be had.
            ModelError: it is no model of this toolkit.
            BackendError: ONNX Runtime, onnx or onnx-graphsurgeon is missing.
        """
        from keyposs_trt.engine.onnx_file import load_onnx
        from keyposs_trt.engine.session import open_session
        from keyposs_trt.graph import detach_decoder, save_model

        suffix = Path(path).suffix.lower()
        if suffix in PLAN_SUFFIXES:
            raise UsageError(f"'{path}' is an engine, which gives no heatmaps to decode; evaluate its .onnx model, or leave out --decoder.")
        if suffix != ".onnx":
            raise ModelError(
                f"'{path}' is no ONNX model, whose heatmaps could be decoded; export it first with 'keyposs-trt export {path}'."
            )
        model, self.spec = load_onnx(path)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "heatmaps.onnx"
            save_model(detach_decoder(model), file)
            self._session: Any = open_session(file, threads=threads, gpu=gpu, exact=self.spec.precision == "int8")
        self._path = path
        self.provider: str = self._session.get_providers()[0]

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.floating]:
        """[N, L, H, H] heatmaps of crops [N, S, S, 3] uint8 RGB."""
        from keyposs_trt.graph.onnxruntime_package import first_line, session_errors

        try:
            return self._session.run([HEATMAPS], {INPUT: crops})[0]
        except session_errors() as e:
            raise BackendError(f"ONNX Runtime failed on '{self._path}' ({first_line(e)}); export the model again.") from e


class Locator:
    """Finds the landmarks of a face in several ways at once. Closes like a file.

    Attributes:
        decoders: D names of ``decoder_names()``.
        spec: what the model says of itself.
        scheme: its landmark scheme.
        backend: what runs it.
    """

    def __init__(self, decoders: Sequence[str], landmarker: Landmarker | None, network: HeatmapNetwork | None) -> None:
        """Puts the parts together; ``open_locator`` opens them.

        Args:
            decoders: names of ``decoder_names()``.
            landmarker: the model as it is, needed for ``model``.
            network: the model without decoder, needed for the others.
        """
        spec = landmarker.spec if landmarker else network.spec if network else None
        if spec is None:
            raise UsageError(f"No decoder was named; choose from {', '.join(decoder_names())}.")
        self.decoders = tuple(decoders)
        self.spec: ModelSpec = spec
        self.scheme = load_scheme(spec.scheme)
        self.backend: str = landmarker.runner.backend if landmarker else "onnxruntime"
        self._landmarker, self._network = landmarker, network

    def __call__(self, image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32]:
        """[D, L, 2] landmarks by each decoder of the face in ``box`` [4], image pixels."""
        found = {} if self._network is None else self._decode(self._network, image, box)
        if self._landmarker is not None:
            found[OWN] = self._landmarker(image, box[None])[0].points
        return np.stack([found[name] for name in self.decoders])

    def close(self) -> None:
        """Frees the runtime's resources."""
        if self._landmarker is not None:
            self._landmarker.close()

    def __enter__(self) -> Locator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _decode(self, network: HeatmapNetwork, image: NDArray[np.uint8], box: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        spec = self.spec
        crops, matrices = crop_faces(image, square_of_box(box[None], spec.crop_scale), spec.input_size)
        maps, back = network(crops), invert(matrices)
        own = {k: v for k, v in spec.solver_parameters().items() if k != "sigma"}
        found = {}
        for name in self.decoders:
            if name != OWN:
                parameters = {k: own[k] for k in own if name in _OF_MODEL and k in DECODERS[name].parameters}
                decoded = decode(maps, name, sigma=spec.sigma, **parameters).to_crop(spec.stride, spec.grid)
                found[name] = transform(back, decoded.points)[0]
        return found


def open_locator(
    name_or_path: str | os.PathLike[str] | None,
    decoders: Sequence[str] = (OWN,),
    backend: str = "auto",
    threads: int | None = None,
) -> Locator:
    """Opens a model to be decoded in several ways.

    Args:
        name_or_path: short name of a shipped model, ``.onnx``, or for ``model`` alone an engine.
        decoders: ``model``, the model's own way, or names of ``decode.DECODERS``, which decode the heatmaps of an ONNX model. ``wls`` and
            ``wls_known`` take the model's parameters, the others their published ones.
        backend: the runtime, see ``Landmarker.load``. Heatmaps for other decoders are always made by ONNX Runtime.
        threads: CPU threads of ONNX Runtime; None for all cores.

    Raises:
        UsageError: there is no such decoder, it is named twice, or the model is an engine, whose heatmaps cannot be had.
        ModelError: a model is missing, corrupt, foreign or of another version.
        BackendError: a runtime or package is missing or cannot run here.
    """
    for number, name in enumerate(decoders):
        if name not in decoder_names():
            raise UsageError(f"There is no decoder '{name}'; choose from {', '.join(decoder_names())}.")
        if name in decoders[:number]:
            raise UsageError(f"The decoder '{name}' is named twice; name it once.")
    path = resolve(name_or_path)
    others = [name for name in decoders if name != OWN]
    network = HeatmapNetwork(path, threads=threads, gpu=backend == "auto") if others else None
    landmarker = Landmarker.load(path, backend, detector=None, threads=threads) if OWN in decoders else None
    return Locator(decoders, landmarker, network)
