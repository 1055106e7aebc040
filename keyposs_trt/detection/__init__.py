"""Face detection behind one small protocol."""

from __future__ import annotations

from keyposs_trt.detection.detector import Detections, Detector, load_detector, sorted_detections
from keyposs_trt.detection.landmark_box import boxes_of_five_points

__all__ = ["Detections", "Detector", "boxes_of_five_points", "load_detector", "sorted_detections"]
