"""``calibration.json``: the ranges of a network's tensors and where they come from, readable, reusable without the images."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import InputError, ModelError
from keyposs_trt.files import atomic_path, read_bytes
from keyposs_trt.graph.onnx_package import DECODE
from keyposs_trt.graph.qdq import quantise
from keyposs_trt.graph.saving import expand_weights

if TYPE_CHECKING:
    import os

    import onnx

FORMAT, VERSION = "keyposs-calibration", 1
SUFFIX = ".calibration.json"


@dataclass(frozen=True)
class Calibration:
    """What is known of the ranges of one network; the JSON keys are the field names. docs/calibration.md explains them.

    Attributes:
        model: the model as it was named.
        network_sha256: of the float32 network's graph and weights, without its decoder.
        method: minmax, entropy, percentile or mse; ``qat`` where the ranges were trained.
        percentile: of the method of that name, in %.
        source: what was calibrated on, in words.
        samples: number of crops; 0 where the ranges were trained.
        set_sha256: of the calibration set.
        ranges: by tensor, the magnitude that becomes 127.
        excluded: weighted operators that stay in float16, beside stem and head.
        corrections: by operator, what is added to its bias: one number an output channel.
        accuracy: what was measured of the INT8 model when it was made: faces, NME of FP32 and INT8 (shares), drift in crop pixels.
        tool: version of keyposs-trt.
        created: UTC, ISO 8601.
        histograms: by tensor ``exponent``, ``zeros``, ``largest``, ``lowest``, ``counts`` (trailing zeros left out); may be empty.
    """

    model: str
    network_sha256: str
    method: str
    percentile: float | None
    source: str
    samples: int
    set_sha256: str
    ranges: dict[str, float]
    excluded: tuple[str, ...] = ()
    corrections: dict[str, list[float]] = field(default_factory=dict)
    accuracy: dict[str, Any] | None = None
    tool: str = ""
    created: str = ""
    histograms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self, histograms: bool = True) -> str:
        """JSON text, a line a key; ``histograms=False`` leaves the long part out."""
        values = {"format": FORMAT, "version": VERSION, **asdict(self)}
        if not histograms:
            values["histograms"] = {}
        long = ("ranges", "corrections", "histograms")
        lines = [f"  {json.dumps(k)}: {_lines(v) if k in long and v else json.dumps(v)}" for k, v in values.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: object) -> Calibration:
        """Reads a calibration.

        Raises:
            ModelError: it is none, lacks a key, is of another version, or holds a value that makes no sense; ``source`` is the file.
        """
        again = "calibrate again with 'keyposs-trt calibrate'"
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise ModelError(f"The calibration '{source}' is not JSON; {again}.") from e
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ModelError(f"'{source}' is JSON but no calibration; {again}.")
        if values.get("version") != VERSION:
            raise ModelError(f"The calibration '{source}' has version {values.get('version')}, this keyposs-trt reads {VERSION}; {again}.")
        try:
            found = cls(**{f.name: values[f.name] for f in fields(cls)})
        except KeyError as e:
            raise ModelError(f"The calibration '{source}' lacks {e}; {again}.") from None
        wrong = found._wrong()
        if wrong:
            raise ModelError(f"The calibration '{source}' is damaged ({wrong}); {again}.")
        return cls(**{**found.__dict__, "excluded": tuple(found.excluded)})

    def _wrong(self) -> str:
        """What makes no sense; empty for nothing."""
        for name in ("model", "network_sha256", "method", "source", "set_sha256", "tool", "created"):
            if not isinstance(getattr(self, name), str):
                return f"{name} is no text"
        if not isinstance(self.ranges, dict) or not all(_positive(v) for v in self.ranges.values()):
            return "ranges are not positive numbers"
        if not isinstance(self.excluded, (list, tuple)) or not all(isinstance(n, str) for n in self.excluded):
            return "excluded is no list of names"
        if not isinstance(self.corrections, dict) or not all(_numbers(v) for v in self.corrections.values()):
            return "corrections are not lists of numbers"
        if isinstance(self.samples, bool) or not isinstance(self.samples, int):
            return "samples is no number"
        if self.accuracy is not None and not isinstance(self.accuracy, dict):
            return "accuracy is no object"
        return "" if isinstance(self.histograms, dict) else "histograms are no object"


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Reads a calibration file.

    Raises:
        InputError: it cannot be read.
        ModelError: it is no calibration, or a damaged one.
    """
    return Calibration.from_json(read_bytes(path, "calibration"), path)


def write_calibration(calibration: Calibration, path: str | os.PathLike[str], histograms: bool = True) -> None:
    """Writes it whole or not at all; OutputError where it cannot be written."""
    with atomic_path(path) as aside:
        aside.write_text(calibration.to_json(histograms), encoding="utf-8")


def calibration_beside(model: str | os.PathLike[str]) -> Path | None:
    """The calibration that lies beside a model: ``NAME.calibration.json``; None where there is none."""
    path = Path(model)
    found = path.with_name(path.stem + SUFFIX)
    return found if found.is_file() else None


def network_sha256(model: onnx.ModelProto) -> str:
    """SHA-256 over operators, connections and weights of a float model, whatever its decoder and however its weights are stored."""
    from onnx import numpy_helper

    digest = hashlib.sha256()
    model = expand_weights(model)
    for node in model.graph.node:
        if not node.name.startswith(DECODE):
            digest.update(repr((node.op_type, list(node.input), list(node.output))).encode())
    for constant in sorted(model.graph.initializer, key=lambda i: i.name):
        if not constant.name.startswith(DECODE):
            values = numpy_helper.to_array(constant)
            digest.update(repr((constant.name, values.dtype.str, values.shape)).encode() + values.tobytes())
    return digest.hexdigest()


def quantise_by(model: onnx.ModelProto, calibration: Calibration, name: str, source: object) -> onnx.ModelProto:
    """The INT8 model of a float model and its calibration.

    Args:
        model: as exported, with any decoder.
        calibration: of this very network.
        name: the model, for messages.
        source: the calibration's file, for messages.

    Raises:
        ModelError: the calibration is of another network.
        BuildError: see ``quantise``.
    """
    found = network_sha256(model)
    if found != calibration.network_sha256:
        raise ModelError(
            f"The calibration '{source}' is of another network ({calibration.network_sha256[:12]}..., '{name}' is {found[:12]}...); "
            f"calibrate this one: keyposs-trt calibrate {name} --data IMAGES"
        )
    corrections = {k: np.asarray(v, np.float64) for k, v in calibration.corrections.items()}
    return quantise(model, calibration.ranges, exclude=calibration.excluded, corrections=corrections)


def require_calibration(model: str | os.PathLike[str], given: str | os.PathLike[str] | None) -> Path:
    """The calibration given, or else the one beside the model.

    Raises:
        InputError: there is none.
    """
    path = Path(given) if given is not None else calibration_beside(model)
    if path is None:
        raise InputError(
            f"INT8 needs ranges measured on images, and there is no '{Path(model).stem}{SUFFIX}' beside '{model}'; "
            f"measure them: keyposs-trt calibrate {model} --data IMAGES"
        )
    return path


def _lines(values: dict[str, Any]) -> str:
    return "{\n" + ",\n".join(f"    {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in values.items()) + "\n  }"


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
