"""A checkpoint becomes an ONNX model that keeps the graph contract."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from keyposs_trt.decode import wls
from keyposs_trt.errors import BuildError, UsageError
from keyposs_trt.graph import (
    attach_decoder,
    attach_preprocessing,
    change_decoder,
    detach_decoder,
    save_model,
    spec_of_model,
    store_weights_fp16,
)
from keyposs_trt.graph.contract import HEATMAPS, INPUT, LOST_SCORE, OUTPUTS, PLUGIN_NAME, ModelSpec, check_decoder
from keyposs_trt.graph.onnxruntime_package import session_in_memory
from keyposs_trt.graph.qdq import is_quantised, quantise
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.checkpoint import load_checkpoint
from keyposs_trt.training.module import IMAGENET_MEAN, IMAGENET_STD, LandmarkModule
from keyposs_trt.training.networks import HeatmapNet, LandmarkNet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

OPSET = 17
MAP_TOLERANCE, LANDMARK_TOLERANCE = 0.02, 0.01


class _HeatmapModel(nn.Module):
    """Normalised images [N, 3, I, I] to maps [N, L, S, S]."""

    def __init__(self, network: LandmarkNet | HeatmapNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network.heatmaps(self.network(image))


def size_of(module: LandmarkModule, heatmap: int | None = None) -> int:
    """The size of the maps to export: the one asked for, or the finest.

    Raises:
        UsageError: the module was not trained with maps of this size.
    """
    sizes = module.recipe.network.sizes
    if heatmap is not None and heatmap not in sizes:
        raise UsageError(
            f"'{module.recipe.name}' was trained with maps of {', '.join(map(str, sizes))}, not {heatmap}; choose one of them."
        )
    return heatmap or sizes[0]


def network_of(module: LandmarkModule, size: int) -> LandmarkNet | HeatmapNet:
    """The part of a trained network that makes the maps of one size."""
    return module.network.only(size) if isinstance(module.network, LandmarkNet) else module.network


def spec_of(
    module: LandmarkModule,
    decoder: str,
    parameters: Mapping[str, float] | None = None,
    heatmap: int | None = None,
    name: str | None = None,
) -> ModelSpec:
    """The contract metadata of a trained module.

    Args:
        module: trained.
        decoder: ``wls``, ``plugin`` or ``none``.
        parameters: radius and prior of the decoder.
        heatmap: size of the maps; None for the finest.
        name: of the model; None for the recipe's.
    """
    r, size = module.recipe, size_of(module, heatmap)
    return ModelSpec(
        name=name or r.model_name(size),
        scheme=load_scheme(r.scheme).name,
        points=len(load_scheme(r.scheme)),
        input_size=r.network.input_size,
        heatmap_size=size,
        sigma=r.target.sigma_of(size),
        grid=r.target.grid,
        crop_scale=r.target.crop_scale,
        decoder=decoder,
        decoder_parameters=dict(parameters or {}),
        covariance_scale=module.covariance_scale_of(size),
        lost_score=module.lost_scores.get(size, LOST_SCORE),
        training_data=r.training_data,
        licence=r.licence,
    )


def to_onnx(
    module: LandmarkModule,
    decoder: str = "wls",
    parameters: Mapping[str, float] | None = None,
    heatmap: int | None = None,
    name: str | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a trained module, float32 (also of one trained for INT8), with preprocessing and decoder inside.

    Arguments as of ``spec_of``.
    """
    model = bare_graph(module, size_of(module, heatmap))
    model = attach_preprocessing(model, [255 * v for v in IMAGENET_MEAN], [255 * v for v in IMAGENET_STD])
    return attach_decoder(model, spec_of(module, decoder, parameters, heatmap, name))


def bare_graph(module: LandmarkModule, size: int) -> onnx.ModelProto:
    """The ONNX graph of the network with maps of one size, without preprocessing and decoder; nodes in the order in which PyTorch runs."""
    return network_to_onnx(_HeatmapModel(network_of(module, size)), module.recipe.network.input_size)


def to_int8(
    module: LandmarkModule,
    decoder: str = "wls",
    parameters: Mapping[str, float] | None = None,
    heatmap: int | None = None,
    name: str | None = None,
    fp16: bool = True,
) -> onnx.ModelProto:
    """The Q/DQ model of a module that was trained for INT8; arguments as of ``spec_of``, and whether the rest is cast to float16.

    Raises:
        UsageError, BuildError: the graph is not the one that was trained.
    """
    from keyposs_trt.training.qat.places import ranges_of  # which exports itself

    # Before there is a decoder: taking one off brings the nodes into another order, and of two convolutions that meet in an addition the
    # order decides which is quantised.
    model = to_onnx(module, "none", None, heatmap, name)
    model = quantise(model, ranges_of(module, model, size_of(module, heatmap)), fp16=fp16)
    return change_decoder(model, decoder, parameters)


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
    heatmap: int | None = None,
    name: str | None = None,
) -> Path:
    """Exports a checkpoint to an ONNX file and checks it against PyTorch; one that was trained for INT8 becomes a Q/DQ model.

    Args:
        checkpoint: a ``last.ckpt`` of ``keyposs-trt train``.
        out: the ONNX file to write; None for the model's name in the checkpoint's folder.
        decoder: ``wls``, ``plugin`` or ``none``.
        fp16_weights: store the weights as float16; they are computed with in float32. Of a Q/DQ model, compute in float16 what is not INT8.
        parameters: radius and prior of the decoder, the defaults where left out.
        heatmap: size of the maps, of a run that trained several; None for the finest.
        name: of the model; None for the recipe's, with the size where there are several.

    Raises:
        UsageError: a parameter of the decoder makes no sense, or there are no maps of this size.
        ModelError: the checkpoint cannot be read.
        BuildError: the exported graph does not compute what PyTorch does.
    """
    module = load_checkpoint(checkpoint)
    size = size_of(module, heatmap)
    check_decoder(decoder, module.recipe.target.sigma_of(size), parameters or {})
    out = out or checkpoint.parent / f"{name or module.recipe.model_name(size)}.onnx"
    model = to_onnx(module, decoder, parameters, size, name)
    if module.fake is not None:
        # In floating point: a sum in another order moves values across the edges of INT8's steps, and such a difference grows from layer to
        # layer. That the pairs are where the training had them is a matter of names, which to_int8 checks.
        check_against_torch(model, module)
        model = to_int8(module, decoder, parameters, size, name, fp16_weights)
    else:
        model = store_weights_fp16(model) if fp16_weights else model
        check_against_torch(model, module)
    save_model(model, out)
    return out


def check_against_torch(model: onnx.ModelProto, module: LandmarkModule) -> None:
    """Runs an exported model on random images: its maps against PyTorch's, its landmarks against the NumPy decoder on these maps.

    Of a module that was trained for INT8, the float model before its pairs.

    Raises:
        BuildError: the maps or the landmarks differ; see ``check_outputs``.
    """

    spec = spec_of_model(model, module.recipe.name)
    network = network_of(module, spec.heatmap_size)

    def expected(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network.heatmaps(network(module.normalised(torch.from_numpy(images).permute(0, 3, 1, 2)))).numpy()

    check_outputs(model, spec.name, expected)


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

    watched = onnx.ModelProto()
    watched.CopyFrom(detach_decoder(model) if any(n.op_type == PLUGIN_NAME for n in model.graph.node) else model)
    names = [o.name for o in watched.graph.output]
    if HEATMAPS not in names:
        watched.graph.output.append(onnx.helper.make_tensor_value_info(HEATMAPS, onnx.TensorProto.FLOAT, None))
    session: Any = session_in_memory(watched.SerializeToString(), "the exported model", exact=is_quantised(watched))
    outputs = [HEATMAPS, *(n for n in names if n == OUTPUTS[0])]
    found = [np.asarray(v, np.float32) for v in session.run(outputs, {INPUT: images})]
    return found[0], found[1] if len(found) > 1 else None
