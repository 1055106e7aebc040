"""How accurate a model is on labelled face crops: what INT8 is decided by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.calibration.inputs import labelled_faces
from keyposs_trt.crop import crop_faces
from keyposs_trt.decode import wls
from keyposs_trt.errors import DataError, InputError
from keyposs_trt.geometry import square_of_box, transform
from keyposs_trt.graph import change_decoder, rounded
from keyposs_trt.graph.contract import INPUT, OUTPUTS
from keyposs_trt.graph.metadata import spec_of_model
from keyposs_trt.graph.onnxruntime_package import session_in_memory
from keyposs_trt.metrics import nme, normaliser
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray

    from keyposs_trt.calibration.inputs import Source
    from keyposs_trt.datasets import Face
    from keyposs_trt.graph.contract import ModelSpec

_BATCH = 16


@dataclass(frozen=True)
class Verdict:
    """What was measured of a model.

    Attributes:
        nme: mean over the faces, a share of the scheme's norm; multiply by 100 for points.
        drift: mean distance of its landmarks from those of the reference, in crop pixels.
        drift_p99: what 99 % of these distances stay below.
    """

    nme: float
    drift: float
    drift_p99: float


class Judge:
    """Runs models on the same crops of labelled faces and compares them with a reference model.

    Attributes:
        faces: number of faces.
        reference: what was measured of the reference itself.
    """

    def __init__(self, reference: onnx.ModelProto, faces: Sequence[Face], threads: int | None = None) -> None:
        """Crops the faces and runs the reference.

        Args:
            reference: a model of this toolkit in float32.
            faces: labelled in the model's landmark scheme.
            threads: CPU threads; None for all cores.

        Raises:
            DataError: there are no faces, or an image cannot be read.
            ModelError: it is no model of this toolkit.
        """
        spec = spec_of_model(reference, "the model")
        if not faces:
            raise DataError("There are no labelled faces to measure the accuracy on; give a data set with landmarks.")
        self.faces = len(faces)
        self._threads = threads
        crops, truth, seen = zip(*(_crop(face, spec) for face in faces), strict=True)
        self._crops, self._truth, self._seen = np.stack(crops), np.stack(truth), np.stack(seen)
        self._norm = normaliser(load_scheme(spec.scheme), self._truth)
        self._points = self.landmarks(reference)
        self.reference = self._verdict(self._points)

    def __call__(self, model: onnx.ModelProto) -> Verdict:
        """Measures a model on the same crops, with the arithmetic that TensorRT uses (``rounded``, ``compute_exactly``)."""
        return self._verdict(self.landmarks(model))

    def landmarks(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        """[F, L, 2] landmarks in crop pixels."""
        spec = spec_of_model(model, "the model")
        if spec.decoder == "plugin":  # the same decoder in operators that run here
            model = change_decoder(model, "wls")
        model = rounded(model)
        session: Any = session_in_memory(model.SerializeToString(), spec.name, self._threads, exact=True)
        outputs = list(OUTPUTS[:1]) if spec.decoder != "none" else list(spec.outputs)
        found = [session.run(outputs, {INPUT: self._crops[i : i + _BATCH]})[0] for i in range(0, self.faces, _BATCH)]
        values = np.concatenate(found)
        if spec.decoder != "none":
            return values
        return wls(values, **spec.solver_parameters()).to_crop(spec.stride, spec.grid).points

    def _verdict(self, points: NDArray[np.float32]) -> Verdict:
        moved = np.linalg.norm(points - self._points, axis=-1)[self._seen]
        return Verdict(float(nme(points, self._truth, self._norm, self._seen).mean()), float(moved.mean()), float(np.quantile(moved, 0.99)))


class Measurer:
    """Measures graphs against the models they were made from; the faces of a model are cropped once."""

    def __init__(self, source: Source, most: int, threads: int | None = None) -> None:
        """Opens nothing yet.

        Args:
            source: annotated faces.
            most: number of faces.
            threads: CPU threads; None for all cores.
        """
        self._source, self._most, self._threads = source, most, threads
        self._judges: dict[int, tuple[onnx.ModelProto, Judge]] = {}

    def __call__(self, model: onnx.ModelProto, graph: onnx.ModelProto) -> dict[str, Any]:
        """The accuracy of ``graph``, made from ``model``: ``data``, ``faces``, ``nme_fp32``, ``nme`` (shares), ``drift``, ``drift_p99``.

        Raises:
            DataError: there are no labelled faces.
        """
        _, judge = self._judges.get(id(model)) or self._open(model)
        found = judge(graph)
        return {"data": self._source.words, "faces": judge.faces, "nme_fp32": judge.reference.nme, **asdict(found)}

    def _open(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, Judge]:
        faces = labelled_faces(self._source, spec_of_model(model, "the model"), self._most)
        self._judges = {id(model): (model, Judge(model, faces, self._threads))}  # the model is kept, or its id might come again
        return self._judges[id(model)]


def _crop(face: Face, spec: ModelSpec) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """The crop [S, S, 3] of a face, its points [L, 2] in crop pixels, and which of them are labelled."""
    try:
        image = face.read_image()
    except InputError as e:
        raise DataError(f"{face.where}: {e}") from e
    crops, matrices = crop_faces(image, square_of_box(face.landmark_box[None], spec.crop_scale), spec.input_size)
    points = transform(matrices, face.points[None])[0]
    return crops[0], points.astype(np.float32), np.ones(len(points), bool) if face.labelled is None else face.labelled
