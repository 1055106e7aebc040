"""TensorRT's own calibration cache, for builders that still take one: TensorRT up to 10 without Q/DQ nodes, and the DLA of a Jetson Orin.

A text: a line that names the TensorRT version and the calibrator, then ``tensor: scale`` with the scale as the eight hexadecimal digits of
a big-endian float32. The version is that of the builder that will read it.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.graph.qdq import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "10.3.0"  # JetPack 6
_CALIBRATOR = "EntropyCalibration2"


def to_cache(ranges: Mapping[str, float], version: str = VERSION) -> str:
    """The cache's text.

    Args:
        ranges: by tensor of the float model, the magnitude that becomes 127.
        version: of the TensorRT that will read it, such as 10.3.0.

    Raises:
        UsageError: the version is none, or of a TensorRT that reads no caches.
    """
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None or not 8 <= int(found[1]) <= 10:
        raise UsageError(f"'{version}' is no TensorRT that reads calibration caches; give one from 8.0.0 to 10.x, such as {VERSION}.")
    major, minor, patch = (int(n) for n in found.groups())
    head = f"TRT-{major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch}-{_CALIBRATOR}"
    return "\n".join([head, *(f"{name}: {struct.pack('>f', value / LEVELS).hex()}" for name, value in ranges.items())]) + "\n"


def from_cache(text: str) -> dict[str, float]:
    """The ranges of a cache, by tensor.

    Raises:
        ModelError: it is no such text.
    """
    lines = text.splitlines()
    if not lines or not re.match(r"TRT-\d+-\w+", lines[0]):
        raise ModelError("This is no TensorRT calibration cache; its first line names TensorRT's version and the calibrator.")
    ranges = {}
    for line in filter(None, lines[1:]):
        name, _, digits = line.rpartition(": ")
        if not name or not re.fullmatch(r"[0-9a-fA-F]{8}", digits):
            raise ModelError(f"This TensorRT calibration cache has a line that is no scale: '{line[:60]}'.")
        ranges[name] = struct.unpack(">f", bytes.fromhex(digits))[0] * LEVELS
    return ranges
