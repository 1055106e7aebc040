"""Heatmap networks of other tools become models of this toolkit: preprocessing, decoder and metadata around their graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.decode.decoded import GRIDS
from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.graph.attach import attach_decoder
from keyposs_trt.graph.batch import free_batch
from keyposs_trt.graph.contract import HEATMAPS, INPUT, OUTPUTS, ModelSpec, check_decoder
from keyposs_trt.graph.foreign import ForeignNetwork, upgraded
from keyposs_trt.graph.onnx_package import DECODE, PREPROCESS, names_of, opset, require_onnx
from keyposs_trt.graph.onnxruntime_package import session_errors, session_in_memory
from keyposs_trt.graph.preprocessing import IMAGENET_MEAN, IMAGENET_STD, attach_preprocessing, check_normalisation
from keyposs_trt.graph.surgery import cut_at
from keyposs_trt.schemes import Scheme, load_scheme, scheme_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

# Mean and standard deviation of R, G, B in values 0..255.
NORMALISATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
TOLERANCE = 0.01  # of the largest map value: room for a float16 network, whose input is rounded in another place
_RESERVED = (PREPROCESS, DECODE, "cast/", "expand/")


def graft(
    model: onnx.ModelProto,
    *,
    name: str,
    sigma: float,
    grid: str,
    scheme: str | None = None,
    heatmaps: str | None = None,
    image: str | None = None,
    input_size: int | None = None,
    normalise: str | tuple[Sequence[float], Sequence[float]] = "imagenet",
    channels: str = "rgb",
    crop_scale: float = 1.25,
    decoder: str = "wls",
    parameters: Mapping[str, float] | None = None,
    training_data: str = "not stated",
    licence: str = "not stated",
) -> onnx.ModelProto:
    """A heatmap network of any tool, such as an export of mmpose, as a model that keeps the graph contract.

    The graph may be of any opset, with a fixed batch or a free one, in float32 or float16, and have further outputs, which are dropped.
    The result is run on the CPU beside the original, alone and as a batch, and refused where its heatmaps differ.

    Args:
        model: a network from one image [N, 3, S, S] to heatmaps [N, L, H, H] of Gaussians about the landmarks, one file.
        name: short name, for reports.
        sigma: sigma of the targets it was trained with, in heatmap pixels.
        grid: where heatmap pixel i lies in the crop: ``corner`` (i x stride) or ``half_pixel`` ((i + 0.5) x stride - 0.5).
        scheme: landmark scheme; None for the one that has as many points as the network has heatmaps.
        heatmaps: the tensor of heatmaps; None for the only output that can be one.
        image: the input; None for the only one.
        input_size: S, where the graph leaves it free.
        normalise: how the network wants its pixels: ``imagenet`` (ImageNet's mean and standard deviation), ``unit`` (0 to 1), ``none``
            (0 to 255), or mean and standard deviation of its channels in values 0..255.
        channels: ``rgb`` or ``bgr``, the order the network was trained with.
        crop_scale: side of the training crops over the longer side of the face box.
        decoder: ``wls``, ``plugin`` or ``none``.
        parameters: radius and prior of the decoder, the defaults where left out.
        training_data: what the network was trained on, in a sentence.
        licence: SPDX identifier of its weights' licence.

    Raises:
        UsageError: an argument makes no sense, or does not fit the network.
        ModelError: the graph is of another kind, or cannot be converted.
        BackendError: onnx, onnx-graphsurgeon or ONNX Runtime is not installed.
    """
    require_onnx()
    mean, std = _normalisation(normalise, channels)
    check_decoder(decoder, sigma, parameters or {})
    if grid not in GRIDS:
        raise UsageError(f"The grid must be one of {', '.join(GRIDS)}, not {grid!r}.")
    if not 0 < crop_scale < np.inf:
        raise UsageError(f"The crop scale must be positive, not {crop_scale}.")
    network = ForeignNetwork(model, name, image, input_size)
    crops = np.random.default_rng(0).integers(0, 256, (2, network.size, network.size, 3)).astype(np.uint8)
    output, element, maps = network.heatmaps(heatmaps, _normalised(crops, mean, std, channels))
    points, side = maps.shape[1:3]
    spec = ModelSpec(
        name=name,
        scheme=_scheme(scheme, points, name).name,
        points=points,
        input_size=network.size,
        heatmap_size=side,
        sigma=sigma,
        grid=grid,
        crop_scale=crop_scale,
        decoder=decoder,
        decoder_parameters=dict(parameters or {}),
        training_data=training_data,
        licence=licence,
    )
    body = cut_at(upgraded(network.model, name), output, element, ["N", points, side, side], _renaming(network.model, output))
    if network.batch is not None:
        body = free_batch(body, network.batch)
    body = attach_preprocessing(body, mean, std, channels)
    _compare(attach_decoder(body, replace(spec, decoder="none")), crops, maps, name)
    return attach_decoder(body, spec)


def _normalisation(normalise: str | tuple[Sequence[float], Sequence[float]], channels: str) -> tuple[Any, Any]:
    """Mean and standard deviation in the order of the network's channels."""
    if not isinstance(normalise, str):
        mean, std = normalise
    elif normalise in NORMALISATIONS:
        mean, std = (values[:: -1 if channels == "bgr" else 1] for values in NORMALISATIONS[normalise])
    else:
        raise UsageError(f"There is no normalisation '{normalise}'; choose one of {', '.join(NORMALISATIONS)}, or give mean and deviation.")
    return check_normalisation(mean, std, channels)


def _scheme(name: str | None, points: int, network: str) -> Scheme:
    schemes = [load_scheme(n) for n in scheme_names()]
    if name is not None:
        scheme = load_scheme(name)
        if len(scheme) != points:
            raise UsageError(
                f"'{network}' has {points} heatmaps, and the scheme '{scheme.name}' has {len(scheme)} points; name another one."
            )
        return scheme
    fitting = [s for s in schemes if len(s) == points]
    if len(fitting) != 1:
        known = ", ".join(f"{s.name} ({len(s)})" for s in fitting or schemes)
        raise UsageError(f"Name the landmark scheme of '{network}', which has {points} heatmaps; known are {known}.")
    return fitting[0]


def _normalised(crops: NDArray[np.uint8], mean: NDArray[np.float64], std: NDArray[np.float64], channels: str) -> NDArray[np.float32]:
    """Crops [N, S, S, 3] RGB as the network takes them, [N, 3, S, S]."""
    pixels = crops[..., ::-1] if channels == "bgr" else crops
    return ((pixels - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def _renaming(model: onnx.ModelProto, output: str) -> Callable[[str], str]:
    """Gives the heatmaps their name, and others that bear a name of ours another one."""
    taken = names_of(model.graph) | {node.name for node in model.graph.node}

    def rename(name: str) -> str:
        if name == output:
            return HEATMAPS
        if name in (HEATMAPS, INPUT, *OUTPUTS) or name.startswith(_RESERVED):
            name = "network/" + name
            while name in taken:
                name = "network/" + name
        return name

    return rename


def _compare(model: onnx.ModelProto, crops: NDArray[np.uint8], expected: NDArray[Any], name: str) -> None:
    """Runs the grafted network: its maps must be those of the original, one by one and as a batch."""
    session = session_in_memory(model.SerializeToString(), name)
    limit = TOLERANCE * float(np.abs(expected).max())
    for images, maps in ((crops[:1], expected[:1]), (crops, expected)):
        try:
            found = np.asarray(session.run([HEATMAPS], {INPUT: images})[0])
        except session_errors():
            found = None
        if found is None or found.shape != maps.shape or not np.abs(found.astype(np.float32) - maps).max() <= limit:
            trouble = "as part of a batch: its graph holds a fixed one" if len(images) > 1 else f"when brought to opset {opset(model)}"
            raise ModelError(
                f"'{name}' gives other heatmaps {trouble}; export it with a free batch (dynamic_axes={{'input': {{0: 'N'}}}} in "
                "torch.onnx.export) and opset 17."
            )
