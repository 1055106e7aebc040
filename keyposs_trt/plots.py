"""Plots as files, drawn by matplotlib where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError, UsageError
from keyposs_trt.files import atomic_path

if TYPE_CHECKING:
    import os

SUFFIXES = (".png", ".pdf", ".svg")


def check_plot(path: str | os.PathLike[str], option: str) -> Any:
    """The class of matplotlib's figures; to be asked before minutes of work.

    Args:
        path: the file that shall be drawn.
        option: that names it, for messages.

    Raises:
        UsageError: the file's suffix is not one of ``SUFFIXES``.
        BackendError: matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{option} cannot write '{path}': plots are {', '.join(SUFFIXES)}; choose one of these.")
    return figure_class(option)


def figure_class(what: str) -> Any:
    """The class of matplotlib's figures; BackendError where it is not installed: ``what`` needs it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise BackendError(f"{what} needs matplotlib, which is not installed: pip install matplotlib.") from e
    return Figure


def save_plot(figure: Any, path: str | os.PathLike[str]) -> None:
    """Writes a figure whole or not at all; OutputError where it cannot be written."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=Path(path).suffix.lower()[1:])
