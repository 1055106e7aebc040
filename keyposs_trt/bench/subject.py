"""A model under test: the way from a picture to drawn landmarks as ``Landmarker`` goes it, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.bench.halves import Halves, split
from keyposs_trt.crop import crop_faces
from keyposs_trt.drawing import draw_landmarks
from keyposs_trt.engine.onnxruntime_runner import OnnxRuntimeRunner
from keyposs_trt.engine.runner import Outputs, StepRunner
from keyposs_trt.errors import UsageError
from keyposs_trt.geometry import invert, square_of_box, transform, transform_covariance
from keyposs_trt.landmarker import MAX_BATCH, Landmarker, check_boxes
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.models import DEFAULT, resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.bench.stopwatch import Stopwatch
    from keyposs_trt.detection import Detector

READ, DETECT, CROP, COPY_IN, NETWORK, LANDMARKS_OUT, DRAW = "read", "detect", "crop", "copy in", "network", "landmarks out", "draw"
STAGES = (READ, DETECT, CROP, COPY_IN, NETWORK, LANDMARKS_OUT, DRAW)
_CPU = "CPUExecutionProvider"
_OF_STEPS = {"copy in": COPY_IN, "network": NETWORK, "copy out": LANDMARKS_OUT}


@dataclass(frozen=True)
class Subject:
    """An open model with a detector; closes like a file.

    Attributes:
        model: as the user named it.
        landmarker: both, opened.
        halves: network and decoder apart; None where they cannot be told apart.
        runtime: name, version and device, for the report.
        notes: stage -> what its figure holds, or why it has none.
    """

    model: str
    landmarker: Landmarker
    halves: Halves | None
    runtime: dict[str, str]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The runtime in words: ``ONNX Runtime 1.23.0 (CPU)``."""
        return f"{self.runtime['name']} {self.runtime['version']} ({self.runtime['device']})"

    def staged(self, image: NDArray[np.uint8], watch: Stopwatch) -> list[Landmarks]:
        """The faces of an image [H, W, 3] uint8 BGR; each stage that was needed becomes a lap. Without a face that is ``detect`` alone."""
        spec, detector = self.landmarker.spec, self.landmarker.detector
        if detector is None:
            raise UsageError("A benchmark needs a face detector; load the landmarker with one.")
        watch.skip()
        found = detector(image)
        boxes = check_boxes(found.boxes)
        watch.lap(DETECT)
        if not len(boxes):
            return []
        crops, matrices = crop_faces(image, square_of_box(boxes, spec.crop_scale), spec.input_size)
        watch.lap(CROP)
        parts = [self._outputs(crops[i : i + MAX_BATCH], watch) for i in range(0, len(crops), MAX_BATCH)]
        back = invert(matrices)
        points = transform(back, np.concatenate([p.landmarks for p in parts]))
        spread = transform_covariance(back, np.concatenate([p.covariance for p in parts]))
        scores = np.concatenate([p.scores for p in parts])
        name = self.landmarker.scheme.name
        faces = [Landmarks(points[i], scores[i], spread[i], boxes[i], float(found.scores[i]), name) for i in range(len(boxes))]
        watch.lap(LANDMARKS_OUT)
        draw_landmarks(image, faces)
        watch.lap(DRAW)
        return faces

    def crops(self, image: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
        """[count, S, S, 3] uint8 RGB: the best face of the image, again and again."""
        spec = self.landmarker.spec
        assert self.landmarker.detector is not None
        best = self.landmarker.detector(image).boxes[:1]
        crop, _ = crop_faces(image, square_of_box(best, spec.crop_scale), spec.input_size)
        return np.repeat(crop, count, axis=0)

    def facts(self) -> dict[str, Any]:
        """What the model is and what runs it, ready for JSON."""
        spec = self.landmarker.spec
        return {
            "model": self.model,
            "name": spec.name,
            "backend": self.landmarker.runner.backend,
            "runtime": self.runtime,
            "input_size": spec.input_size,
            "heatmap_size": spec.heatmap_size,
            "points": spec.points,
            "decoder": spec.decoder,
        }

    def close(self) -> None:
        """Frees the runtime's resources."""
        self.landmarker.close()

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _outputs(self, crops: NDArray[np.uint8], watch: Stopwatch) -> Outputs:
        """Of at most ``MAX_BATCH`` crops."""
        runner = self.landmarker.runner
        if self.halves is not None:
            maps = self.halves.network(crops)
            watch.lap(NETWORK)
            outputs = self.halves.decode(maps)
            watch.lap(LANDMARKS_OUT)
        elif isinstance(runner, StepRunner):
            outputs = runner.in_steps(crops, lambda step: watch.lap(_OF_STEPS[step]))
            watch.lap(LANDMARKS_OUT)
        else:
            outputs = runner(crops)
            watch.lap(NETWORK)
        return outputs


def open_subject(
    model: str | None = None, backend: str = "auto", *, detector: str | Detector = "blazeface", threads: int | None = 1
) -> Subject:
    """Opens a model and a detector for a benchmark.

    Args:
        model: short name of a shipped model, or a ``.onnx`` or ``.plan`` file; None for the default model.
        backend: ``auto``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        detector: a name for ``detection.load_detector``, or a detector.
        threads: CPU threads of ONNX Runtime and of BlazeFace; None for all cores.

    Raises:
        ModelError, BackendError, UsageError: see ``Landmarker.load``.
    """
    path = resolve(model)
    landmarker = Landmarker.load(path, backend, detector=detector, threads=threads)
    try:
        runner = landmarker.runner
        # On a GPU the halves would carry the heatmaps to and fro, which the whole graph does not.
        on_cpu = isinstance(runner, OnnxRuntimeRunner) and runner.provider == _CPU
        halves = split(path, landmarker.spec, threads) if on_cpu else None
        return subject_of(model or DEFAULT, landmarker, halves)
    except BaseException:
        landmarker.close()
        raise


def subject_of(model: str, landmarker: Landmarker, halves: Halves | None = None) -> Subject:
    """A subject of parts that are open already; ``model`` is its name in the report."""
    runner: Any = landmarker.runner
    on_onnxruntime = runner.backend == "onnxruntime"
    runtime = _onnxruntime(getattr(runner, "provider", _CPU)) if on_onnxruntime else _engine(runner)
    has_steps, in_graph = isinstance(runner, StepRunner), landmarker.spec.decoder != "none"
    notes = {COPY_IN: "", NETWORK: "", LANDMARKS_OUT: "mapping to image pixels"}
    on_cpu = on_onnxruntime and runtime["device"] == "CPU"
    if on_cpu:
        notes[COPY_IN] = "none: the network runs on the CPU"
    elif not has_steps:
        notes[COPY_IN] = "not measured: the runtime copies inside its call, which is under network"
    if halves is None and (in_graph or not has_steps):
        notes[NETWORK] = "with the decoder"
        if on_cpu and find_spec("onnx") is None:
            notes[NETWORK] += "; with the onnx package installed they are told apart"
    else:
        notes[LANDMARKS_OUT] = "decoder, " + notes[LANDMARKS_OUT]
    if has_steps:
        notes[LANDMARKS_OUT] = "copy out, " + notes[LANDMARKS_OUT]
    return Subject(model, landmarker, halves, runtime, notes)


def _onnxruntime(provider: str) -> dict[str, str]:
    import onnxruntime

    return {"name": "ONNX Runtime", "version": onnxruntime.__version__, "device": provider.removesuffix("ExecutionProvider")}


def _engine(runner: Any) -> dict[str, str]:
    from keyposs_trt.engine.gpu import current_gpu
    from keyposs_trt.engine.versions import TENSORRT_RTX

    name = "TensorRT-RTX" if runner.backend == TENSORRT_RTX else "TensorRT"
    manifest, gpu = getattr(runner, "manifest", None), current_gpu()
    facts = {"name": name, "version": manifest.runtime_version if manifest else "?", "device": gpu.name if gpu else "GPU unknown"}
    return {**facts, "precision": manifest.precision} if manifest else facts
