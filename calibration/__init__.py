"""Calibration for INT8, installed as ``keyposs_trt.calibration``. Today: the choice of the images."""

from __future__ import annotations

from keyposs_trt.calibration.sets import CalibrationSet, collect

__all__ = ["CalibrationSet", "collect"]
