"""One calibration run: from a model and images to the calibration, in the order in which a user sees it happen."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.calibration.corrections import bias_corrections
from keyposs_trt.calibration.measure import measure
from keyposs_trt.calibration.methods import PERCENTILE, check_method, range_of
from keyposs_trt.errors import DataError
from keyposs_trt.graph.calibration_file import Calibration, network_sha256

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import onnx

    from keyposs_trt.calibration.histogram import Histogram
    from keyposs_trt.calibration.measure import Statistics
    from keyposs_trt.calibration.sets import CalibrationSet

FEWEST = 16  # crops: ranges of fewer hang on single pictures
METHOD = "mse"


@dataclass(frozen=True)
class Method:
    """How ranges are chosen: see ``methods.range_of``."""

    name: str = METHOD
    percentile: float = PERCENTILE

    def __post_init__(self) -> None:
        check_method(self.name, self.percentile)


def calibrate(
    model: onnx.ModelProto,
    crops: CalibrationSet,
    method: Method | None = None,
    *,
    name: str,
    source: str,
    threads: int | None = None,
    state: str | os.PathLike[str] | None = None,
    correct_biases: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Calibration:
    """Measures the ranges of a model's tensors on face crops.

    Args:
        model: a float model of this toolkit.
        crops: real faces, cropped as the runtime does.
        method: how ranges are chosen; None for mse.
        name: of the model, as the user gave it.
        source: what the crops are, in words.
        threads, state, progress: as of ``measure``.
        correct_biases: take what rounding the weights adds to the mean of each channel out of its bias.

    Raises:
        DataError: there are too few crops, they are all alike, or an image has gone.
        ModelError: it is no model of this toolkit, or quantised already.
        OutputError: the state cannot be written.
    """
    method = method or Method()
    check_set(crops)
    found = measure(model, crops, threads=threads, state=state, progress=progress)
    return calibration_of(model, found, method, name=name, source=source, set_sha256=crops.digest, correct_biases=correct_biases)


def calibration_of(
    model: onnx.ModelProto,
    found: Statistics,
    method: Method,
    *,
    name: str,
    source: str,
    set_sha256: str,
    correct_biases: bool = True,
) -> Calibration:
    """The calibration of what was measured; see ``calibrate``."""
    from keyposs_trt import __version__

    ranges = {tensor: float(f"{range_of(h, method.name, method.percentile):.7g}") for tensor, h in found.histograms.items()}
    flat = [tensor for tensor, value in ranges.items() if value <= 0]
    if flat:
        told = f"The tensor '{flat[0]}' is zero on all {found.samples} crops and has no range"
        raise DataError(f"{told}; give other images, or check the model.")
    corrections = bias_corrections(model, found.means) if correct_biases else {}
    return Calibration(
        model=name,
        network_sha256=network_sha256(model),
        method=method.name,
        percentile=method.percentile if method.name == "percentile" else None,
        source=source,
        samples=found.samples,
        set_sha256=set_sha256,
        ranges=ranges,
        corrections={k: [float(f"{v:.4g}") for v in values] for k, values in corrections.items()},
        tool=f"keyposs-trt {__version__}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        histograms={tensor: histogram_record(h) for tensor, h in found.histograms.items()},
    )


def check_set(crops: CalibrationSet) -> None:
    """Refuses a set on which ranges would be chance.

    Raises:
        DataError: it has too few crops, or all show the same.
    """
    if len(crops) < FEWEST:
        raise DataError(f"{len(crops)} crops are too few: ranges would hang on single pictures; calibrate on {FEWEST} or more, better 256.")
    if len({hashlib.sha256(crops.crop(i).tobytes()).digest() for i in range(min(len(crops), 2 * FEWEST))}) == 1:
        raise DataError("All crops of the calibration set are the same picture; give images of different faces.")


def histogram_record(histogram: Histogram) -> dict[str, Any]:
    """A histogram as it stands in the file."""
    counts = histogram.counts
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    record = {k: v for k, v in asdict(histogram).items() if k != "counts"}
    return {**record, "counts": counts[:used].tolist()}


def histogram_of_record(record: Mapping[str, Any]) -> Histogram:
    """The histogram of ``histogram_record``.

    Raises:
        DataError: the record makes no sense.
    """
    from keyposs_trt.calibration.histogram import BINS, Histogram

    try:
        counts = np.zeros(BINS, np.int64)
        given = np.asarray(record["counts"], np.int64)
        counts[: len(given)] = given
        return Histogram(int(record["exponent"]), counts, int(record["zeros"]), float(record["largest"]), float(record["lowest"]))
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(f"A histogram of the calibration is damaged ({e}); calibrate again.") from e
