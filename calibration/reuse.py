"""An earlier calibration used again: its ranges as they are, or another method on its histograms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from keyposs_trt.calibration.methods import range_of
from keyposs_trt.calibration.run import histogram_of_record
from keyposs_trt.errors import DataError, ModelError
from keyposs_trt.graph.calibration_file import network_sha256, read_calibration

if TYPE_CHECKING:
    import os

    import onnx

    from keyposs_trt.calibration.run import Method
    from keyposs_trt.graph.calibration_file import Calibration


def reuse(path: str | os.PathLike[str], model: onnx.ModelProto, method: Method | None, name: str) -> Calibration:
    """The calibration of an earlier run, for the same network.

    Args:
        path: its file.
        model: the float model.
        method: choose the ranges anew from the histograms; None keeps them.
        name: of the model, for messages.

    Raises:
        InputError: the file cannot be read.
        ModelError: it is no calibration, or of another network.
        DataError: a method is asked for and the file holds no histograms.
    """
    found = read_calibration(path)
    if network_sha256(model) != found.network_sha256:
        raise ModelError(
            f"The calibration '{path}' is of another network than '{name}'; calibrate it: keyposs-trt calibrate {name} --data IMAGES"
        )
    if method is None or (method.name == found.method and found.percentile in (None, method.percentile)):
        return found
    lacking = [tensor for tensor in found.ranges if tensor not in found.histograms]
    if lacking:
        raise DataError(f"The calibration '{path}' holds no histograms, so that no other method can be tried; measure again with --data.")
    ranges = {tensor: range_of(histogram_of_record(found.histograms[tensor]), method.name, method.percentile) for tensor in found.ranges}
    return replace(
        found, method=method.name, percentile=method.percentile if method.name == "percentile" else None, ranges=ranges, accuracy=None
    )
