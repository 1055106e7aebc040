"""A model on all faces of a data set, shared out to several processes; every face is counted once, in its place."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from keyposs_trt.errors import BackendError
from keyposs_trt.evaluation.located import join, look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from keyposs_trt.datasets import Dataset, Face, Problem
    from keyposs_trt.evaluation.boxes import BoxSource
    from keyposs_trt.evaluation.located import Found, Located
    from keyposs_trt.evaluation.locator import Locator
    from keyposs_trt.evaluation.models import Setup

_LARGEST_PART = 8  # faces handed to a process at a time: few, so that the bar moves and Ctrl-C does not wait


def locate_in_processes(
    setup: Setup, dataset: Dataset, processes: int, progress: Callable[[Iterable[Face]], Iterable[Face]] = iter
) -> Located:
    """What ``locate_faces`` gives, by several processes that each open the model.

    Args:
        setup: the model and what is done with it; without ``threads``, the processes share the cores.
        dataset: in a scheme whose points the model gives.
        processes: how many, at least 1.
        progress: wraps the faces, to show how far it is.

    Raises:
        UsageError, DataError: as of ``locate_faces``.
        ModelError, BackendError: a process cannot open the model, or has died.
    """
    setup = replace(setup, threads=setup.threads or max(1, _cores() // processes))
    size = max(1, min(_LARGEST_PART, -(-len(dataset) // processes)))
    # Neighbours stay together, as they are mostly faces of one image; problems stay here.
    parts = [replace(dataset, faces=dataset.faces[i : i + size], problems=()) for i in range(0, len(dataset), size)]
    # Forked processes would inherit locks that threads of OpenCV or ONNX Runtime hold at that moment.
    pool = ProcessPoolExecutor(min(processes, len(parts)), multiprocessing.get_context("spawn"), _leave_signals_to_the_parent)
    try:
        results = chain.from_iterable(pool.map(_look_at, [setup] * len(parts), parts))
        return join(dataset, setup.decoders, results, progress)
    except BrokenProcessPool as e:
        raise BackendError("A process of the evaluation has died, perhaps out of memory; use fewer with --processes.") from e
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal


def _look_at(setup: Setup, part: Dataset) -> list[Found | Problem]:
    locator, boxes = _opened(setup)
    return list(look_at(locator, part, boxes, setup.flip_test))


@lru_cache(maxsize=1)
def _opened(setup: Setup) -> tuple[Locator, BoxSource]:
    return setup.open_locator(), setup.open_boxes()
