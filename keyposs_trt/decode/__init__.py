"""From heatmaps to landmarks: multilateration and its exports.

A decoder takes heatmaps [..., L, H, W] and gives a ``Decoded``; ``wls`` is the default.
"""

from keyposs_trt.decode.decoded import GRIDS, Decoded, grid_shift, to_crop
from keyposs_trt.decode.multilateration import wls

__all__ = ["GRIDS", "Decoded", "grid_shift", "to_crop", "wls"]
