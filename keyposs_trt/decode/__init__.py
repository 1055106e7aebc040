"""From heatmaps to landmarks: multilateration, the published decoders it is compared with, and its exports.

A decoder takes heatmaps [..., L, H, W] and gives a ``Decoded``; ``wls`` is the default, ``decode`` runs any of ``DECODERS``.
"""

from keyposs_trt.decode.decoded import GRIDS, Decoded, grid_shift, to_crop
from keyposs_trt.decode.decoders import DECODERS, Decoder, decode
from keyposs_trt.decode.multilateration import wls

__all__ = ["DECODERS", "GRIDS", "Decoded", "Decoder", "decode", "grid_shift", "to_crop", "wls"]
