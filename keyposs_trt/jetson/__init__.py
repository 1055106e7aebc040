"""What a Jetson has for the toolkit: the board and its JetPack, power and heat, and what cameras and TensorRT need.

Everything is read from files, and nothing is changed.
"""

from __future__ import annotations

from keyposs_trt.jetson.board import Board, describe_release, read_board
from keyposs_trt.jetson.diagnosis import diagnose
from keyposs_trt.jetson.machine import Machine

__all__ = ["Board", "Machine", "describe_release", "diagnose", "read_board"]
