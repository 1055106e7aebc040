"""ONNX graphs that stand for engines: the same network in the same precision, computed on the CPU as an engine rounds.

See ``keyposs_trt.graph.rounding`` for what makes a twin out of a graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.engine.onnx_file import load_onnx
from keyposs_trt.engine.precision import FP16, FP32, INT8
from keyposs_trt.errors import InputError
from keyposs_trt.graph import change_decoder, is_quantised, rounded, save_model, to_fp16
from keyposs_trt.graph.calibration_file import (
    SUFFIX,
    Calibration,
    network_sha256,
    quantise_by,
    read_calibration,
    require_calibration,
)
from keyposs_trt.graph.onnx_package import FLOAT16, element_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from keyposs_trt.graph.contract import ModelSpec


@dataclass(frozen=True)
class Graph:
    """A model in one precision.

    Attributes:
        file: the ONNX file, as it would be built into an engine.
        twin: what is run on the CPU for it; ``file`` itself where that computes the same.
        size: bytes of ``file``.
        calibration: the ranges that it was made with; None for none.
        spec: what it says of itself.
    """

    file: Path
    twin: Path
    size: int
    calibration: Path | None
    spec: ModelSpec


class Workshop:
    """Makes graphs in a folder, each of them once."""

    def __init__(self, folder: Path, calibrations: Sequence[Path] = ()) -> None:
        """Makes nothing yet.

        Args:
            folder: an empty one.
            calibrations: files, and folders of ``NAME.calibration.json``; none for the one beside each model.
        """
        self._folder, self._calibrations = folder, tuple(calibrations)
        self._loaded: dict[Path, tuple[onnx.ModelProto, ModelSpec]] = {}
        self._made: dict[tuple[Path, str, Path | None], Graph] = {}

    def load(self, path: Path) -> tuple[onnx.ModelProto, ModelSpec]:
        """A model and its spec; for errors see ``load_onnx``."""
        key = path.resolve()
        if key not in self._loaded:
            self._loaded[key] = load_onnx(path)
        return self._loaded[key]

    def precision_of(self, path: Path) -> str:
        """fp32, fp16 or int8: what the convolutions of a file compute in."""
        model, spec = self.load(path)
        if spec.precision == INT8 or is_quantised(model):
            return INT8
        types = element_types(model)
        halves = any(types.get(n.output[0]) == FLOAT16 for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose"))
        return FP16 if halves else FP32

    def make(self, path: Path, precision: str, *, title: str = "", calibration: Path | None = None) -> Graph:
        """A model in a precision; a file that is FP16 or INT8 already comes as it is.

        Args:
            path: the ONNX file.
            precision: fp32, fp16 or int8.
            title: the model in messages.
            calibration: the ranges of INT8; None for those given to the workshop, or beside the file.

        Raises:
            InputError: INT8 without a calibration.
            ModelError: it is none of this toolkit, or the calibration is of another network.
            BuildError: it cannot be had in this precision.
        """
        model, spec = self.load(path)
        own = self.precision_of(path)
        ranges = (calibration or self.calibration_for(path, title)) if (own, precision) == (FP32, INT8) else None
        key = (path.resolve(), own if own != FP32 else precision, ranges)
        if key not in self._made:
            name = f"{len(self._made)}_{path.stem}"
            self._made[key] = self._save(path, model, spec, key[1], ranges, name, title or str(path))
        return self._made[key]

    def _save(
        self, path: Path, model: onnx.ModelProto, spec: ModelSpec, precision: str, ranges: Path | None, name: str, title: str
    ) -> Graph:
        made, file = model, path
        if self.precision_of(path) == FP32 and precision != FP32:
            made = to_fp16(model) if ranges is None else quantise_by(model, read_calibration(ranges), title, ranges)
            file = self._folder / f"{name}_{precision}.onnx"
            save_model(made, file)
        twin = file
        if spec.decoder == "plugin" or precision != FP32:
            runs = change_decoder(made, "wls") if spec.decoder == "plugin" else made
            twin = self._folder / f"{name}_{precision}_twin.onnx"
            save_model(rounded(runs), twin)
        return Graph(file, twin, file.stat().st_size, ranges, spec)

    def calibration_for(self, path: Path, title: str = "") -> Path:
        """The calibration of a model: of those given the one of its network, or else the one beside it.

        Raises:
            InputError: there is none.
        """
        if not self._calibrations:
            if ".ckpt" in title:
                raise InputError(
                    "INT8 needs ranges measured on images, and a checkpoint has none; export it with keyposs-trt export, measure them with "
                    "keyposs-trt calibrate, and compare the exported model."
                )
            if title and not Path(title).exists() and not path.with_name(path.stem + SUFFIX).exists():
                raise InputError(
                    f"INT8 needs ranges measured on images, and '{title}' has none; measure them with "
                    f"'keyposs-trt calibrate {title} --data IMAGES', and give them with --calibration."
                )
            return require_calibration(path, None)
        found = [file for given in self._calibrations if (file := _file_of(given, path)) is not None]
        if not found:
            raise InputError(
                f"INT8 needs ranges measured on images, and '{path.stem}{SUFFIX}' is not in {', '.join(map(str, self._calibrations))}; "
                f"measure them with 'keyposs-trt calibrate {title or path} --data IMAGES'."
            )
        wanted = network_sha256(self.load(path)[0]) if len(found) > 1 else ""
        return next((file for file in found if wanted and _network(file) == wanted), found[0])


def _file_of(given: Path, model: Path) -> Path | None:
    """A calibration that was given, or the model's in the folder that was given."""
    if not given.is_dir():
        return given
    inside = given / f"{model.stem}{SUFFIX}"
    return inside if inside.is_file() else None


def _network(file: Path) -> str:
    calibration: Calibration = read_calibration(file)
    return calibration.network_sha256
