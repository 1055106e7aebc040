"""A checkpoint becomes an ONNX model that keeps the graph contract."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from torch import nn

from keyposs_trt.errors import BuildError
from keyposs_trt.graph import attach_decoder, attach_preprocessing, save_model, store_weights_fp16
from keyposs_trt.graph.contract import HEATMAPS, ModelSpec
from keyposs_trt.schemes import load_scheme
from keyposs_trt.training.checkpoint import load_checkpoint
from keyposs_trt.training.module import IMAGENET_MEAN, IMAGENET_STD, LandmarkModule

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

OPSET = 17


class _HeatmapModel(nn.Module):
    """Normalised images [N, 3, I, I] to maps [N, L, S, S]."""

    def __init__(self, module: LandmarkModule) -> None:
        super().__init__()
        self.network = module.network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network.heatmaps(self.network(image))


def spec_of(module: LandmarkModule, decoder: str) -> ModelSpec:
    """The contract metadata of a trained module; ``decoder`` is ``wls`` or ``none``."""
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
        training_data=r.training_data,
        licence=r.licence,
    )


def to_onnx(module: LandmarkModule, decoder: str = "wls") -> onnx.ModelProto:
    """The ONNX model of a trained module, float32, with preprocessing and decoder inside."""
    import onnx

    size = module.recipe.network.input_size
    buffer = io.BytesIO()
    torch.onnx.export(
        _HeatmapModel(module).eval(),
        (torch.zeros(1, 3, size, size),),
        buffer,  # pyright: ignore[reportArgumentType] (the TorchScript exporter takes a file object)
        input_names=["normalised"],
        output_names=[HEATMAPS],
        dynamic_axes={"normalised": {0: "N"}, HEATMAPS: {0: "N"}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    model = attach_preprocessing(model, [255 * v for v in IMAGENET_MEAN], [255 * v for v in IMAGENET_STD])
    return attach_decoder(model, spec_of(module, decoder))


def export_checkpoint(checkpoint: Path, out: Path, decoder: str = "wls", fp16_weights: bool = True) -> Path:
    """Exports a checkpoint to an ONNX file and checks it against PyTorch.

    Args:
        checkpoint: a ``last.ckpt`` of ``keyposs-trt train``.
        out: the ONNX file to write.
        decoder: ``wls`` or ``none``.
        fp16_weights: store the weights as float16; they are computed with in float32.

    Raises:
        ModelError: the checkpoint cannot be read.
        BuildError: the exported graph does not compute what PyTorch does.
    """
    module = load_checkpoint(checkpoint)
    model = to_onnx(module, decoder)
    _check_against_torch(module)
    save_model(store_weights_fp16(model) if fp16_weights else model, out)
    return out


def _check_against_torch(module: LandmarkModule) -> None:
    """Raises BuildError where the exported maps of random images differ from PyTorch's by more than 1e-3 of the peak."""
    import numpy as np
    import onnxruntime

    size = module.recipe.network.input_size
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.uint8))
    session = onnxruntime.InferenceSession(to_onnx(module, "none").SerializeToString(), providers=["CPUExecutionProvider"])
    (maps,) = session.run(None, {"image": images.numpy()})
    with torch.inference_mode():
        expected = module.network.heatmaps(module(images.permute(0, 3, 1, 2))).numpy()
    difference = float(np.abs(np.asarray(maps) - expected).max() / expected.max())
    if not difference < 1e-3:
        raise BuildError(f"The exported graph differs from PyTorch by {difference:.1e} of the peak; report this with the recipe.")
