"""The one object most users hold: from an image to the landmarks of its faces."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from keyposs_trt.crop import crop_faces
from keyposs_trt.detection import load_detector
from keyposs_trt.engine.device_arrays import is_device_array
from keyposs_trt.engine.frames import DeviceFrame, FrameRunner
from keyposs_trt.engine.runner import Outputs, open_runner
from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.geometry import invert, square_of_box, transform, transform_covariance
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.models import resolve
from keyposs_trt.schemes import load_scheme, scheme_names

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.detection import Detector
    from keyposs_trt.engine.runner import Runner
    from keyposs_trt.graph.contract import ModelSpec
    from keyposs_trt.schemes import Scheme

    Lap = Callable[[Literal["crop", "infer"], float], object]

MAX_BATCH = 16  # crops in one call of the network: bounds the memory that a picture of many faces takes


class Landmarker:
    """A face detector and a landmark model. Safe to call from several threads; closes like a file.

        with Landmarker.load() as landmarker:
            for face in landmarker(cv2.imread("photo.jpg")):
                print(face.points)

    Attributes:
        runner: the landmark model on its runtime.
        spec: what the model says of itself.
        scheme: the landmark scheme of the model.
        detector: finds the faces where no boxes are given; None for none.
    """

    def __init__(self, runner: Runner, detector: Detector | None = None) -> None:
        """Puts the parts together; ``Landmarker.load`` also opens them.

        Raises:
            ModelError: the model's landmark scheme is unknown, or has another number of points.
        """
        self.runner = runner
        self._frames = runner if isinstance(runner, FrameRunner) else None  # asked once: to ask a protocol takes 0.1 ms
        self.spec: ModelSpec = runner.spec
        self.scheme = _scheme_of(runner.spec)
        self.detector = detector

    @classmethod
    def load(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        backend: str = "auto",
        *,
        detector: str | Path | Detector | None = "blazeface",
        threads: int | None = None,
    ) -> Landmarker:
        """Opens a model and a detector.

        Args:
            name_or_path: short name of a shipped model, or a ``.onnx`` or ``.plan`` file; None for the default model.
            backend: ``auto``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
            detector: a name for ``detection.load_detector``, any callable that keeps the ``Detector`` protocol, or None
                where boxes will always be given.
            threads: CPU threads of ONNX Runtime; None for all cores.

        Raises:
            ModelError: a model is missing, corrupt, foreign or of another version.
            BackendError: a runtime is missing or cannot run here.
            UsageError: an unknown backend or detector.
        """
        finder = None if detector is None else load_detector(detector, threads=threads)
        runner = open_runner(resolve(name_or_path), backend, threads)
        try:
            return cls(runner, finder)
        except ModelError:
            runner.close()
            raise

    def __call__(
        self,
        image: NDArray[np.uint8] | DeviceFrame | Any,
        boxes: ArrayLike | None = None,
        *,
        max_faces: int | None = None,
        min_score: float | None = None,
    ) -> list[Landmarks]:
        """The landmarks of the faces in one image.

        Args:
            image: [H, W, 3] uint8 BGR as OpenCV reads it; grey [H, W] and BGRA [H, W, 4] are converted. With an engine and boxes also
                a ``DeviceFrame``, or an array on the GPU (``__dlpack__`` or ``__cuda_array_interface__``) of uint8 [H, W, 3] BGR.
            boxes: [F, 4] x1 y1 x2 y2 in image pixels, each tight around the landmarks of a face (brows to chin); they may reach
                over the border. None lets the detector find the faces.
            max_faces: keep the faces with the highest detector scores, or the first boxes; None for all.
            min_score: leave out faces whose ``score`` is below; None for what the detector gives.

        Returns:
            One ``Landmarks`` a face: best first, or in the order of ``boxes``.

        Raises:
            UsageError: an image, box or number that makes no sense, or no boxes where there is no detector.
        """
        return self.batch([image], [boxes], max_faces=max_faces, min_score=min_score)[0]

    def batch(
        self,
        images: Sequence[NDArray[np.uint8] | DeviceFrame | Any],
        boxes: Sequence[ArrayLike | None] | None = None,
        *,
        max_faces: int | None = None,
        min_score: float | None = None,
        lap: Lap | None = None,
    ) -> list[list[Landmarks]]:
        """The landmarks of the faces in several images, of any sizes; their crops go through the network together.

        An engine makes the crops on the GPU, where each image goes once.

        Args:
            images: as for one image.
            boxes: for each image its boxes, or None to let the detector find them; None to do so for all.
            max_faces: as for one image, of each image.
            min_score: as for one image.
            lap: is told, as soon as they are over, the seconds that ``crop`` and ``infer`` took; crops that are made on the GPU count as
                ``infer``.

        Returns:
            For each image the list of its faces.
        """
        if max_faces is not None and max_faces < 1:
            raise UsageError(f"The largest number of faces must be at least 1, not {max_faces}.")
        if boxes is not None and len(boxes) != len(images):
            raise UsageError(f"There are {len(images)} images but boxes for {len(boxes)}; give one array of boxes (or None) an image.")
        pictures = [self._picture(image) for image in images]
        start = time.perf_counter()
        found = [self._faces(p, None if boxes is None else boxes[i], max_faces, min_score) for i, p in enumerate(pictures)]
        if not found:
            return []
        squares = [square_of_box(image_boxes, self.spec.crop_scale) for image_boxes, _ in found]
        if self._frames is not None:
            between = time.perf_counter()
            if lap is not None:
                lap("crop", between - start)
            outputs, matrices = self._frames.on_frames(pictures, squares)
        else:
            cut = [crop_faces(p, s, self.spec.input_size) for p, s in zip(pictures, squares, strict=True) if not isinstance(p, DeviceFrame)]
            crops, matrices = cut[0] if len(cut) == 1 else (np.concatenate(parts) for parts in zip(*cut, strict=True))
            between = time.perf_counter()
            if lap is not None:
                lap("crop", between - start)
            outputs = self._run(crops)
        if lap is not None:
            lap("infer", time.perf_counter() - between)
        faces = iter(_in_image(outputs, matrices))
        out = []
        for image_boxes, scores in found:
            marks = [self._result(next(faces), box, score) for box, score in zip(image_boxes, scores, strict=True)]
            out.append([m for m in marks if min_score is None or m.score >= min_score])
        return out

    def close(self) -> None:
        """Frees the runtime's resources; the landmarker cannot be called afterwards."""
        self.runner.close()

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _picture(self, image: Any) -> NDArray[np.uint8] | DeviceFrame:
        """An image as the runner takes it."""
        if isinstance(image, np.ndarray) or not (isinstance(image, DeviceFrame) or is_device_array(image)):
            return as_bgr(image)
        if self._frames is None:
            raise UsageError(
                f"The image lies on the GPU, and {self.runner.backend} takes images of the CPU; load a TensorRT engine, or copy the image."
            )
        return image if isinstance(image, DeviceFrame) else DeviceFrame.of(image)

    def _faces(
        self, image: NDArray[np.uint8] | DeviceFrame, boxes: ArrayLike | None, max_faces: int | None, min_score: float | None
    ) -> tuple[NDArray[np.float32], Sequence[float | None]]:
        """Boxes [F, 4] and detector scores [F] (None where boxes were given) of one image."""
        if boxes is not None:
            given = check_boxes(boxes)[:max_faces]
            return given, [None] * len(given)
        if isinstance(image, DeviceFrame):
            raise UsageError("Faces are detected on the CPU, and the image lies on the GPU; give its boxes, or copy the image.")
        if self.detector is None:
            raise UsageError("This landmarker has no face detector; give boxes, or load it with detector='blazeface'.")
        found = self.detector(image)
        keep = np.ones(len(found), bool) if min_score is None else found.scores >= min_score
        return check_boxes(found.boxes[keep][:max_faces]), found.scores[keep][:max_faces].tolist()

    def _run(self, crops: NDArray[np.uint8]) -> Outputs:
        """The outputs of the network for any number of crops."""
        if len(crops) <= MAX_BATCH:
            return self.runner(crops)
        chunks = [self.runner(crops[i : i + MAX_BATCH]) for i in range(0, len(crops), MAX_BATCH)]
        return Outputs(*(np.concatenate([getattr(c, name) for c in chunks]) for name in ("landmarks", "scores", "covariance")))

    def _result(self, face: tuple[Any, ...], box: NDArray[np.float32], score: float | None) -> Landmarks:
        points, scores, covariance = face
        return Landmarks(points, scores, covariance, box, float(scores.sum()) / len(scores) if score is None else score, self.scheme.name)


def _in_image(outputs: Outputs, matrices: NDArray[np.float64]) -> zip[tuple[Any, ...]]:
    """Points [L, 2], scores [L] and covariance [L, 3] of each crop, in image pixels."""
    back = invert(matrices)
    return zip(transform(back, outputs.landmarks), outputs.scores, transform_covariance(back, outputs.covariance), strict=True)


def as_bgr(image: Any) -> NDArray[np.uint8]:
    """An image as [H, W, 3] uint8 BGR: grey is repeated, alpha is dropped.

    Raises:
        UsageError: it is no image of 8 bits a channel.
    """
    import cv2

    if image is None:
        raise UsageError("The image is None, which is what cv2.imread gives for a file it cannot read; check the path.")
    if not isinstance(image, np.ndarray):
        raise UsageError(f"An image must be a NumPy array of uint8 [H, W, 3] BGR, not {type(image).__name__}; read it with cv2.imread.")
    if image.dtype != np.uint8:
        raise UsageError(f"An image must be uint8, not {image.dtype}; scale it to 0..255 and convert it with .astype(numpy.uint8).")
    shape = list(image.shape)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise UsageError(f"An image must be [H, W, 3] BGR, not {shape}; give one image, channels last.")
    if image.size == 0:
        raise UsageError(f"The image has no pixels (shape {shape}); check where it was cut out.")
    image = np.ascontiguousarray(image)
    if image.shape[2] == 1:
        return cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    if image.shape[2] == 4:
        return cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_BGRA2BGR))
    return image


def check_boxes(boxes: ArrayLike) -> NDArray[np.float32]:
    """Boxes as [F, 4] float32; an empty list gives [0, 4].

    Raises:
        UsageError: another shape, a number that is not finite, or a box of less than a pixel.
    """
    try:
        b = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as e:
        raise UsageError(f"Boxes must be numbers [F, 4], x1 y1 x2 y2 in pixels ({e}).") from e
    if b.size == 0:
        return np.zeros((0, 4), np.float32)
    if b.ndim != 2 or b.shape[1] != 4:
        raise UsageError(f"Boxes must be [F, 4], x1 y1 x2 y2 in pixels, not {list(b.shape)}; write one box as [[x1, y1, x2, y2]].")
    if np.isfinite(b).all() and (b[:, 2:] - b[:, :2]).min() >= 1:
        return b
    for i, row in enumerate(b):  # which one it is
        if not np.isfinite(row).all():
            raise UsageError(f"Box {i} is not finite: {row.tolist()}.")
        if min(row[2:] - row[:2]) < 1:
            raise UsageError(f"Box {i} is smaller than a pixel: {row.tolist()}; boxes are x1 y1 x2 y2 in image pixels, not x y w h.")
    return b


def _scheme_of(spec: ModelSpec) -> Scheme:
    try:
        scheme = load_scheme(spec.scheme)
    except UsageError as e:
        raise ModelError(
            f"Model '{spec.name}' uses the landmark scheme '{spec.scheme}', which this keyposs-trt does not know "
            f"({', '.join(scheme_names())}); install the version that wrote it."
        ) from e
    if len(scheme) != spec.points:
        raise ModelError(
            f"Model '{spec.name}' has {spec.points} points, its landmark scheme '{scheme.name}' has {len(scheme)}; export it again."
        )
    return scheme
