"""A published checkpoint becomes an ONNX model that keeps the graph contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from keyposs_trt.errors import BuildError, UsageError
from keyposs_trt.graph import graft, save_model, store_weights_fp16
from keyposs_trt.graph.contract import HEATMAPS, check_decoder
from keyposs_trt.graph.onnxruntime_package import session_in_memory
from keyposs_trt.training.export import check_outputs, network_to_onnx, run_with_maps
from keyposs_trt.training.published.layout import load_published

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

    from keyposs_trt.training.published.layout import PublishedModel

INPUT_SIZE = 256  # of all published face models
TOLERANCE = 1e-3  # of the largest map value


def export_published(
    checkpoint: Path,
    out: Path | None = None,
    decoder: str = "wls",
    fp16_weights: bool = True,
    parameters: Mapping[str, float] | None = None,
    *,
    sigma: float,
    grid: str,
    input_size: int = INPUT_SIZE,
    **told: Any,
) -> Path:
    """Exports a checkpoint of mmpose or KeyPosS to an ONNX file, and checks it step by step against PyTorch.

    Args:
        checkpoint: a ``.pth``, ``.pt`` or ``.safetensors``; nothing in it is run.
        out: the ONNX file to write; None for the checkpoint's name beside it.
        decoder: ``wls``, ``plugin`` or ``none``.
        fp16_weights: store the weights as float16; they are computed with in float32.
        parameters: radius and prior of the decoder, the defaults where left out.
        sigma: sigma of the targets it was trained with, in heatmap pixels; 2 in mmpose's and KeyPosS's configurations.
        grid: where heatmap pixels lie in the crop; ``corner`` in both, unless trained with UDP.
        input_size: side of the crops in pixels.
        told: further arguments of ``keyposs_trt.graph.graft``: name, scheme, normalise, channels, crop_scale, training_data, licence.

    Raises:
        UsageError: an argument makes no sense, or does not fit the model.
        ModelError: the checkpoint cannot be read safely, or is of another network.
        BuildError: the exported graph does not compute what PyTorch does.
        BackendError: a package is missing.
    """
    check_decoder(decoder, sigma, parameters or {})
    published = load_published(checkpoint)
    if input_size < 1 or input_size % published.multiple:
        raise UsageError(
            f"The input size of '{checkpoint}', a {published.kind}, must be a multiple of {published.multiple}, not {input_size}."
        )
    network = network_to_onnx(published.network, input_size)
    _check_network(network, published, input_size)
    told = {"name": checkpoint.stem, **told}
    exact = graft(network, sigma=sigma, grid=grid, decoder=decoder, parameters=parameters, **told)
    model = store_weights_fp16(exact) if fp16_weights else exact
    check_outputs(model, told["name"], lambda crops: run_with_maps(exact, crops)[0])
    out = out or checkpoint.with_suffix(".onnx")
    save_model(model, out)
    return out


def _check_network(model: onnx.ModelProto, published: PublishedModel, size: int) -> None:
    """The maps of an exported network on one random image against PyTorch's."""
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    session = session_in_memory(model.SerializeToString(), published.kind)
    maps = np.asarray(session.run([HEATMAPS], {session.get_inputs()[0].name: image})[0])
    with torch.inference_mode():
        expected = published.network(torch.from_numpy(image)).numpy()
    difference = float(np.abs(maps - expected).max() / max(float(np.abs(expected).max()), 1e-9))
    if not difference < TOLERANCE:
        raise BuildError(f"The exported {published.kind} differs from PyTorch's by {difference:.1e} of the peak; report this.")
