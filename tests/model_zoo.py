"""Tiny models that keep the graph contract, for tests: a bright spot in the crop becomes a face.

The network finds a bright spot of about one map cell on a darker ground and draws one Gaussian a landmark around it,
at a fixed template: landmark i of a white cell at map position p has its peak at ``p + template(...)[i]``. The box of
the template is 0.8 of the crop, so a crop of 1.25 x the landmarks' box keeps its size from frame to frame when the spot
is tracked. A uniform crop gives empty maps (score 0).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.graph import attach_decoder, attach_preprocessing, save_model
from keyposs_trt.graph.contract import ModelSpec
from keyposs_trt.graph.preprocessing import IMAGENET_STD

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

PEAK = 0.9  # value of a map at its peak, for a white spot of exactly one cell on black


def template(points: int, heatmap_size: int) -> NDArray[np.float64]:
    """[L, 2] offsets of the landmarks from the spot, heatmap pixels: a spiral whose box is 0.8 of the map."""
    i = np.arange(points)
    angle = i * np.pi * (3 - 5**0.5)
    p = np.sqrt(i + 0.5)[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    low, high = p.min(0), p.max(0)
    return (p - (low + high) / 2) / np.maximum(high - low, 1e-9) * 0.8 * heatmap_size


def spot_image(input_size: int, heatmap_size: int, cell: tuple[int, int]) -> NDArray[np.uint8]:
    """[S, S, 3] uint8 crop: black with one white map cell (column, row)."""
    k = input_size // heatmap_size
    image = np.zeros((input_size, input_size, 3), np.uint8)
    image[cell[1] * k : (cell[1] + 1) * k, cell[0] * k : (cell[0] + 1) * k] = 255
    return image


def heatmap_network(
    *, heatmap_size: int = 32, input_size: int = 128, points: int = 68, sigma: float = 2.0, channels: int = 8, seed: int = 0
) -> onnx.ModelProto:
    """A float network: ``input`` [N, 3, S, S] (ImageNet mean and std) -> ``heatmaps`` [N, L, H, H], float32, opset 17."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    stride = input_size // heatmap_size
    spot = np.full((3, 3), -1 / 8)
    spot[1, 1] = 1
    stem = rng.normal(0, 0.1, (channels, 3, 3, 3))
    stem[0] = np.array(IMAGENET_STD)[:, None, None] / (3 * 255) * spot  # sees grey differences in units of [0, 1], whatever the mean

    offset = template(points, heatmap_size)
    reach = int(np.ceil(0.4 * heatmap_size + 3 * sigma))
    tap = np.arange(-reach, reach + 1)
    # A convolution is a correlation: the tap at -offset reads the spot.
    gauss = np.exp(-((tap + offset[..., None]) ** 2) / (2 * sigma**2))
    rows = rng.normal(0, 1e-3, (points, channels, 1, tap.size)) * gauss[:, None, None, 0]
    rows[:, 0, 0] = PEAK * gauss[:, 0]
    columns = gauss[:, None, 1, :, None]

    weights = {"stem.weight": stem, "stem.bias": np.zeros(channels), "rows.weight": rows, "columns.weight": columns}
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], "pool", kernel_shape=[stride] * 2, strides=[stride] * 2),
        helper.make_node("Conv", ["pooled", "stem.weight", "stem.bias"], ["stem"], "stem", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["stem"], ["spots"], "relu"),
        helper.make_node("Conv", ["spots", "rows.weight"], ["rows"], "rows", kernel_shape=[1, tap.size], pads=[0, reach, 0, reach]),
        helper.make_node(
            "Conv", ["rows", "columns.weight"], ["heatmaps"], "columns", kernel_shape=[tap.size, 1], pads=[reach, 0, reach, 0], group=points
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "spots",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, input_size, input_size])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["N", points, heatmap_size, heatmap_size])],
        [numpy_helper.from_array(np.ascontiguousarray(v, np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_spec(
    *,
    heatmap_size: int = 32,
    input_size: int = 128,
    points: int = 68,
    scheme: str = "300w",
    grid: str = "half_pixel",
    decoder: str = "wls",
    sigma: float = 2.0,
) -> ModelSpec:
    """The spec of ``tiny_model`` with the same arguments."""
    return ModelSpec(
        name="tiny",
        scheme=scheme,
        points=points,
        input_size=input_size,
        heatmap_size=heatmap_size,
        sigma=sigma,
        grid=grid,
        decoder=decoder,
        training_data="nothing: fixed weights",
        licence="Apache-2.0",
    )


def tiny_model(
    path: str | Path,
    *,
    heatmap_size: int = 32,
    input_size: int = 128,
    points: int = 68,
    scheme: str = "300w",
    grid: str = "half_pixel",
    decoder: str = "wls",
) -> Path:
    """Writes a model that keeps the graph contract and returns its path."""
    spec = tiny_spec(heatmap_size=heatmap_size, input_size=input_size, points=points, scheme=scheme, grid=grid, decoder=decoder)
    network = heatmap_network(heatmap_size=heatmap_size, input_size=input_size, points=points)
    save_model(attach_decoder(attach_preprocessing(network), spec), path)
    return Path(path)
