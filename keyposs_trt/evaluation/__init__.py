"""Accuracy on labelled faces."""

from keyposs_trt.evaluation.faces import LabelledFace, labelled_faces, read_mmpose_json
from keyposs_trt.evaluation.measure import Report, evaluate

__all__ = ["LabelledFace", "Report", "evaluate", "labelled_faces", "read_mmpose_json"]
