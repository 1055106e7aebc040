"""Calibration for INT8, installed as ``keyposs_trt.calibration``: images, ranges, and which layers INT8 costs accuracy in.

Where Q/DQ nodes go and how they are put into a graph stands in ``keyposs_trt.graph`` (``placement``, ``qdq``, ``calibration_file``), which
the engine builder uses too.
"""

from __future__ import annotations

from keyposs_trt.calibration.sets import CalibrationSet, collect, collect_faces

__all__ = ["CalibrationSet", "collect", "collect_faces"]
