"""The graph contract: what every model file of this toolkit takes, gives and says of itself.

Inputs and outputs, the same for every runtime (N is free, S and L are fixed):

    image       uint8    [N, S, S, 3]  RGB crop; normalisation happens inside the graph
    landmarks   float32  [N, L, 2]     x, y in crop pixels
    scores      float32  [N, L]        in [0, 1]
    covariance  float32  [N, L, 3]     xx, xy, yy in crop pixels squared

A model with ``decoder = none`` gives ``heatmaps`` [N, L, H, W] (float32 or float16) instead of the three outputs. With ``wls``
the decoder is standard operators, which run everywhere; with ``plugin`` it is one node for TensorRT's plugin, which runs there only.
The metadata below stand in the ONNX file as ``metadata_props``; every key starts with ``keyposs.``.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

from keyposs_trt.decode.decoded import GRIDS
from keyposs_trt.decode.multilateration import check_parameters
from keyposs_trt.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_VERSION = "1"
PREFIX = "keyposs."
INPUT = "image"
OUTPUTS = ("landmarks", "scores", "covariance")
HEATMAPS = "heatmaps"
DECODERS = ("none", "wls", "plugin")
PRECISIONS = ("float", "int8")
# Of a model that does not say: crops without a face stay below it, and faces of maps as wide as their targets well above.
LOST_SCORE = 0.55

# The decoder as one node. TensorRT's ONNX parser looks for the plugin by the operator's name and the attributes plugin_version and
# plugin_namespace, whatever the domain is; ONNX's checker lets unknown operators pass in a domain of their own only. This one is where ONNX
# Runtime's TensorRT provider expects plugins.
PLUGIN_NAME, PLUGIN_VERSION, PLUGIN_NAMESPACE = "KeyPosSMultilateration", "1", ""
PLUGIN_DOMAIN = "trt.plugins"

_PARAMETERS = set(signature(check_parameters).parameters)


def check_decoder(decoder: str, sigma: float, parameters: Mapping[str, float]) -> dict[str, Any]:
    """A decoder and its parameters as a user asks for them.

    Args:
        decoder: one of ``DECODERS``.
        sigma: of the training targets in heatmap pixels.
        parameters: radius and prior; the defaults where left out.

    Returns:
        All parameters of the solver, sigma included.

    Raises:
        UsageError: there is no such decoder or parameter, or a value makes no sense.
    """
    if decoder not in DECODERS:
        raise UsageError(f"There is no decoder '{decoder}'; choose one of {', '.join(DECODERS)}.")
    known = sorted(_PARAMETERS - {"sigma"})
    unknown = set(parameters).difference(known)
    if unknown:
        raise UsageError(f"The decoder has no parameter '{min(unknown)}'; it has {' and '.join(known)}.")
    values: dict[str, Any] = dict(parameters)
    return check_parameters(sigma=sigma, **values)


@dataclass(frozen=True)
class ModelSpec:
    """What a model says of itself; the fields are the metadata keys without their prefix.

    Attributes:
        name: short name, for reports.
        scheme: landmark scheme, a name of ``keyposs_trt.schemes``.
        points: L, the number of landmarks.
        input_size: S, side of the square crop in pixels.
        heatmap_size: side of the square map in heatmap pixels.
        sigma: sigma of the training target in heatmap pixels.
        grid: sampling grid, ``corner`` (x_crop = x * stride) or ``half_pixel`` (x_crop = (x + 0.5) * stride - 0.5).
        crop_scale: side of the crop over the longer side of the face box.
        decoder: ``none``, ``wls`` or ``plugin``.
        decoder_parameters: parameters of the decoder, radius and prior, the defaults where left out.
        covariance_scale: what the decoder's covariance is multiplied by inside the graph, so that it fits errors on annotated faces.
        lost_score: mean landmark score below which a crop shows no face; scores of models with other maps are not alike.
        precision: ``float``, or ``int8`` for a graph with Q/DQ nodes, which must be computed as it is written.
        training_data: what it was trained on, in a sentence.
        licence: SPDX identifier of the weights' licence.
        format_version: version of this contract.
    """

    name: str
    scheme: str
    points: int
    input_size: int
    heatmap_size: int
    sigma: float
    grid: str
    crop_scale: float = 1.25
    decoder: str = "wls"
    decoder_parameters: dict[str, float] = field(default_factory=dict)
    covariance_scale: float = 1.0
    lost_score: float = LOST_SCORE
    precision: str = "float"
    training_data: str = "not stated"
    licence: str = "not stated"
    format_version: str = FORMAT_VERSION

    def __post_init__(self) -> None:
        for ok, what in (
            (self.points > 0, f"points must be positive, not {self.points}"),
            (self.input_size > 0, f"input_size must be positive, not {self.input_size}"),
            (0 < self.heatmap_size <= self.input_size, f"heatmap_size must be in 1..input_size, not {self.heatmap_size}"),
            (0 < self.sigma < math.inf, f"sigma must be positive, not {self.sigma}"),
            (self.grid in GRIDS, f"grid must be one of {', '.join(GRIDS)}, not {self.grid!r}"),
            (0 < self.crop_scale < math.inf, f"crop_scale must be positive, not {self.crop_scale}"),
            (self.precision in PRECISIONS, f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}"),
            (0 <= self.lost_score <= 1, f"lost_score must be in 0..1, not {self.lost_score}"),
            (0 < self.covariance_scale < math.inf, f"covariance_scale must be positive, not {self.covariance_scale}"),
            (self.decoder in DECODERS, f"decoder must be one of {', '.join(DECODERS)}, not {self.decoder!r}"),
        ):
            if not ok:
                raise ModelError(f"The spec of model '{self.name}' is wrong: {what}; export the model again.")
        self.solver_parameters()

    @property
    def stride(self) -> float:
        """Crop pixels per heatmap pixel."""
        return self.input_size / self.heatmap_size

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return (HEATMAPS,) if self.decoder == "none" else OUTPUTS

    def solver_parameters(self) -> dict[str, Any]:
        """All parameters of the decoder, sigma and the defaults included.

        Raises:
            ModelError: a parameter is unknown or makes no sense.
        """
        try:
            parameters: dict[str, Any] = self.decoder_parameters
            return check_parameters(sigma=self.sigma, **parameters)
        except (TypeError, UsageError) as e:
            raise ModelError(f"The spec of model '{self.name}' is wrong: decoder_parameters: {e} Export the model again.") from e

    def to_metadata(self) -> dict[str, str]:
        """The metadata as strings, ready for ``metadata_props``."""
        return {PREFIX + k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: object) -> ModelSpec:
        """Reads the metadata of a model file.

        Args:
            metadata: the file's key-value strings; keys without our prefix are ignored.
            source: the file, for messages.

        Raises:
            ModelError: the metadata are missing, of another version, or wrong.
        """
        own = {k[len(PREFIX) :]: v for k, v in metadata.items() if k.startswith(PREFIX)}
        if "format_version" not in own:
            raise ModelError(
                f"'{source}' is an ONNX model without keyposs metadata; "
                "export it with 'keyposs-trt export', which takes heatmap networks of other tools too (docs/grafting.md)."
            )
        if own["format_version"] != FORMAT_VERSION:
            raise ModelError(
                f"'{source}' has graph format version {own['format_version']}, this keyposs-trt reads version "
                f"{FORMAT_VERSION}; export the model again with this version, or install the version that wrote it."
            )
        values: dict[str, Any] = {}
        for key, kind in _KINDS.items():
            if key not in own and key in _LATER:
                continue
            if key not in own:
                raise ModelError(f"'{source}' lacks the metadata key '{PREFIX}{key}'; export the model again.")
            try:
                values[key] = own[key] if kind is str else kind(json.loads(own[key]))
            except (ValueError, TypeError) as e:
                raise ModelError(f"'{source}' has an unreadable metadata key '{PREFIX}{key}'; export the model again.") from e
        try:
            return cls.from_record(values)
        except ModelError as e:
            raise ModelError(f"'{source}': {e}") from e

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> ModelSpec:
        """A spec that stands in a file, by its fields.

        A decoder inside the graph runs whatever is written of it; where it was made by an earlier version, with a parameter this one does
        not know, none of its parameters says anything to this version's solver, and they are left out.

        Raises:
            ModelError: a value makes no sense.
            TypeError: a field is missing or unknown.
        """
        parameters = values.get("decoder_parameters")
        if values.get("decoder") != "none" and isinstance(parameters, dict) and not _PARAMETERS.issuperset(parameters):
            values = {**values, "decoder_parameters": {}}
        return cls(**values)


_LATER = ("covariance_scale", "lost_score", "precision")  # keys that files of before have not, and whose default says what they are
_KINDS: dict[str, Any] = {
    "name": str,
    "scheme": str,
    "points": int,
    "input_size": int,
    "heatmap_size": int,
    "sigma": float,
    "grid": str,
    "crop_scale": float,
    "decoder": str,
    "decoder_parameters": dict,
    "covariance_scale": float,
    "lost_score": float,
    "precision": str,
    "training_data": str,
    "licence": str,
    "format_version": str,
}
