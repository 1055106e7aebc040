"""Where the time goes: a model on this machine, stage by stage and end to end, alone or against another one."""

from keyposs_trt.bench.comparison import Ratio, ratio_of
from keyposs_trt.bench.measure import Measured, Plan, bench
from keyposs_trt.bench.pictures import Pictures, open_pictures
from keyposs_trt.bench.stopwatch import Percentiles, Stopwatch
from keyposs_trt.bench.subject import Subject, open_subject

__all__ = [
    "Measured",
    "Percentiles",
    "Pictures",
    "Plan",
    "Ratio",
    "Stopwatch",
    "Subject",
    "bench",
    "open_pictures",
    "open_subject",
    "ratio_of",
]
