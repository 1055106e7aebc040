"""A checkpoint becomes an ONNX model that keeps the graph contract."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from keyposs_trt.decode import wls
from keyposs_trt.errors import BuildError
from keyposs_trt.graph import attach_decoder, attach_preprocessing, detach_decoder, save_model, spec_of_model, store_weights_fp16
from keyposs_trt.graph.contract import HEATMAPS, INPUT, OUTPUTS, PLUGIN_NAME, ModelSpec, check_decoder
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.checkpoint import load_checkpoint
from keyposs_trt.training.module import IMAGENET_MEAN, IMAGENET_STD, LandmarkModule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

OPSET = 17
MAP_TOLERANCE, LANDMARK_TOLERANCE = 0.02, 0.01


class _HeatmapModel(nn.Module):
    """Normalised images [N, 3, I, I] to maps [N, L, S, S]."""

    def __init__(self, module: LandmarkModule) -> None:
        super().__init__()
        self.network = module.network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network.heatmaps(self.network(image))


def spec_of(module: LandmarkModule, decoder: str, parameters: Mapping[str, float] | None = None) -> ModelSpec:
    """The contract metadata of a trained module; ``decoder`` is ``wls``, ``plugin`` or ``none``, ``parameters`` its radius and prior."""
    r = module.recipe
    return ModelSpec(
        name=r.name,
        scheme=load_scheme(r.scheme).name,
        points=len(load_scheme(r.scheme)),
        input_size=r.network.input_size,
        heatmap_size=r.network.heatmap_size,
        sigma=r.target.sigma,
        grid=r.target.grid,
        crop_scale=r.target.crop_scale,
        decoder=decoder,
        decoder_parameters=dict(parameters or {}),
        training_data=r.training_data,
        licence=r.licence,
    )


def to_onnx(module: LandmarkModule, decoder: str = "wls", parameters: Mapping[str, float] | None = None) -> onnx.ModelProto:
    """The ONNX model of a trained module, float32, with preprocessing and decoder inside."""
    model = network_to_onnx(_HeatmapModel(module), module.recipe.network.input_size)
    model = attach_preprocessing(model, [255 * v for v in IMAGENET_MEAN], [255 * v for v in IMAGENET_STD])
    return attach_decoder(model, spec_of(module, decoder, parameters))


def network_to_onnx(network: nn.Module, size: int) -> onnx.ModelProto:
    """The ONNX graph of a network from normalised images [N, 3, size, size] to maps [N, L, S, S], with a free N, float32."""
    import onnx

    buffer = io.BytesIO()
    torch.onnx.export(
        network.eval(),
        (torch.zeros(1, 3, size, size),),
        buffer,  # pyright: ignore[reportArgumentType] (the TorchScript exporter takes a file object)
        input_names=["normalised"],
        output_names=[HEATMAPS],
        dynamic_axes={"normalised": {0: "N"}, HEATMAPS: {0: "N"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_from_string(buffer.getvalue())


def export_checkpoint(
    checkpoint: Path,
    out: Path | None = None,
    decoder: str = "wls",
    fp16_weights: bool = True,
    parameters: Mapping[str, float] | None = None,
) -> Path:
    """Exports a checkpoint to an ONNX file and checks it against PyTorch.

    Args:
        checkpoint: a ``last.ckpt`` of ``keyposs-trt train``.
        out: the ONNX file to write; None for the model's name in the checkpoint's folder.
        decoder: ``wls``, ``plugin`` or ``none``.
        fp16_weights: store the weights as float16; they are computed with in float32.
        parameters: radius and prior of the decoder, the defaults where left out.

    Raises:
        UsageError: a parameter of the decoder makes no sense.
        ModelError: the checkpoint cannot be read.
        BuildError: the exported graph does not compute what PyTorch does.
    """
    module = load_checkpoint(checkpoint)
    check_decoder(decoder, module.recipe.target.sigma, parameters or {})
    out = out or checkpoint.parent / f"{module.recipe.name}.onnx"
    model = to_onnx(module, decoder, parameters)
    if fp16_weights:
        model = store_weights_fp16(model)
    check_against_torch(model, module)
    save_model(model, out)
    return out


def check_against_torch(model: onnx.ModelProto, module: LandmarkModule) -> None:
    """Runs an exported model on random images: its maps against PyTorch's, its landmarks against the NumPy decoder on these maps.

    Raises:
        BuildError: the maps or the landmarks differ; see ``check_outputs``.
    """

    def expected(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return module.network.heatmaps(module(torch.from_numpy(images).permute(0, 3, 1, 2))).numpy()

    check_outputs(model, module.recipe.name, expected)


def check_outputs(model: onnx.ModelProto, name: str, expected_maps: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> None:
    """Runs a model on random crops: its maps against those expected, its landmarks against the NumPy decoder on its maps.

    Of a model that decodes with TensorRT's plugin, which does not run here, the maps alone.

    Args:
        model: keeps the graph contract.
        name: for messages.
        expected_maps: crops [N, S, S, 3] to maps [N, L, H, H].

    Raises:
        BuildError: the maps differ by more than 2 % of the peak, which leaves room for weights stored as float16, or the
            landmarks by more than 0.01 crop pixels.
    """
    spec = spec_of_model(model, name)
    images = np.random.default_rng(0).integers(0, 256, (2, spec.input_size, spec.input_size, 3)).astype(np.uint8)
    maps, landmarks = run_with_maps(model, images)
    expected = expected_maps(images)
    difference = float(np.abs(maps - expected).max() / np.abs(expected).max())
    if not difference < MAP_TOLERANCE:
        raise BuildError(f"The exported maps differ from PyTorch's by {difference:.1e} of the peak; report this with the recipe.")
    if landmarks is not None:
        decoded = wls(maps, **spec.solver_parameters()).to_crop(spec.stride, spec.grid).points
        pixels = float(np.abs(landmarks - decoded).max())
        if not pixels < LANDMARK_TOLERANCE:
            raise BuildError(f"The exported landmarks differ from the decoder's by {pixels:.2g} pixels; report this with the recipe.")


def run_with_maps(model: onnx.ModelProto, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Heatmaps of a model and, where it has a decoder, its landmarks."""
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(detach_decoder(model) if any(n.op_type == PLUGIN_NAME for n in model.graph.node) else model)
    names = [o.name for o in watched.graph.output]
    if HEATMAPS not in names:
        watched.graph.output.append(onnx.helper.make_tensor_value_info(HEATMAPS, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [HEATMAPS, *(n for n in names if n == OUTPUTS[0])]
    found = [np.asarray(v, np.float32) for v in session.run(outputs, {INPUT: images})]
    return found[0], found[1] if len(found) > 1 else None
