"""Opens a data set, whatever its format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.datasets import aflw, coco_wholebody, cofw, lapa, mmpose, pts, teacher, views, wflw
from keyposs_trt.datasets.checks import ON_PROBLEM, collect, problems_in_words
from keyposs_trt.datasets.face import points_of_scheme
from keyposs_trt.datasets.format import Request
from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.files import file_mode
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    import os

    from keyposs_trt.datasets.face import Dataset
    from keyposs_trt.datasets.format import Format

# In the order in which they are tried: the last two fit most loosely.
FORMATS = {module.FORMAT.name: module.FORMAT for module in (wflw, cofw, aflw, coco_wholebody, lapa, views, teacher, pts, mmpose)}


def format_names() -> list[str]:
    """Names of the formats, as ``open_dataset`` takes them."""
    return list(FORMATS)


def open_dataset(
    path: str | os.PathLike[str],
    format: str | None = None,
    scheme: str | None = None,
    split: str | None = None,
    on_problem: str = "skip",
) -> Dataset:
    """Reads and checks all annotations of a data set; the images stay where they are.

    Args:
        path: the data set's folder, or one annotation file.
        format: one of ``format_names()``; None finds out from what lies there.
        scheme: the scheme to give the points in: the data set's own (by default), or one of which it has all points.
        split: the part of the data set, named as its authors do; None reads all. For mmpose's JSON, the name of the file or its end.
        on_problem: ``skip`` leaves out annotations that cannot be used and keeps why; ``refuse`` raises when there is one.

    Raises:
        UsageError: a name is unknown, or the data set does not have the scheme's points.
        DataError: there is nothing that can be used, or there are problems and they are refused.
        BackendError: a package that reads the format is missing.
    """
    if on_problem not in ON_PROBLEM:
        raise UsageError(f"'{on_problem}' is no way to treat problems; choose one of {', '.join(ON_PROBLEM)}.")
    if scheme is not None:
        load_scheme(scheme)
    found = _format(Path(path), format)
    if split is not None and found.splits and split not in found.splits:
        raise UsageError(f"{found.title} has no split '{split}'; choose one of {', '.join(found.splits)}.")
    try:
        own, records = found.read(Request(Path(path), split, scheme))
        if scheme is not None:  # before minutes of reading
            points_of_scheme(own, scheme)
        dataset = collect(found.title if found.splits else Path(path).stem, found.name, own, Path(path), records)
    except OSError as e:
        raise DataError(f"Cannot read the data set '{path}': {e.strerror or e}; check its permissions.") from e
    if dataset.problems and on_problem == "refuse":
        raise DataError(f"'{path}' has {problems_in_words(dataset)}; correct them, or skip what has problems.")
    return dataset if scheme is None else dataset.as_scheme(scheme)


def _format(path: Path, name: str | None) -> Format:
    if name is not None and name not in FORMATS:
        raise UsageError(f"There is no data set format '{name}'; choose one of {', '.join(FORMATS)}.")
    if not file_mode(path):
        raise DataError(f"There is no data set '{path}'; check the path.")
    if name is not None:
        return FORMATS[name]
    try:
        found = next((f for f in FORMATS.values() if f.fits(path)), None)
    except OSError as e:
        raise DataError(f"Cannot read '{path}': {e.strerror or e}; check its permissions.") from e
    if found is None:
        wanted = "; ".join(f.looks_for for f in FORMATS.values())
        raise DataError(f"'{path}' is no data set of a known format. Looked for {wanted}. Check the path, or name the format.")
    return found
