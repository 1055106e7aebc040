"""Annotated faces from the public data sets, in the files they are published in."""

from keyposs_trt.datasets.face import Dataset, Face, ImageInFile, Problem
from keyposs_trt.datasets.opening import format_names, open_dataset

__all__ = ["Dataset", "Face", "ImageInFile", "Problem", "format_names", "open_dataset"]
