"""Accuracy on labelled faces."""

from keyposs_trt.evaluation.boxes import BoxSource
from keyposs_trt.evaluation.faces import LabelledFace, labelled_faces, read_mmpose_json
from keyposs_trt.evaluation.figures import Figures, figures_of
from keyposs_trt.evaluation.located import Located, locate_faces
from keyposs_trt.evaluation.locator import Locator, open_locator
from keyposs_trt.evaluation.measure import Report, evaluate

__all__ = [
    "BoxSource",
    "Figures",
    "LabelledFace",
    "Located",
    "Locator",
    "Report",
    "evaluate",
    "figures_of",
    "labelled_faces",
    "locate_faces",
    "open_locator",
    "read_mmpose_json",
]
