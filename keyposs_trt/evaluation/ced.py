"""The cumulative error distribution (CED) as a picture: the share of faces with an NME up to each value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.plots import check_plot, save_plot

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

LIMIT = 0.1  # NME at the right end, where AUC ends


def cumulative(errors: NDArray[np.float64], limit: float = LIMIT) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve from 0 to ``limit`` as a step function: values [K] and the share of faces with at most that NME [K].

    Faces whose NME is NaN count as failures.
    """
    values = np.sort(errors[errors <= limit])
    shares = np.arange(1, len(values) + 1) / len(errors)
    return np.r_[0, values, limit], np.r_[0, shares, shares[-1] if len(shares) else 0]


def plot_ced(path: str | os.PathLike[str], curves: Mapping[str, NDArray[np.float64]], norm: str) -> None:
    """Draws one curve for each name and the NME [F] of its faces.

    Raises:
        UsageError, BackendError: see ``check_plot``.
        OutputError: the file cannot be written.
    """
    figure = check_plot(path, "--ced")(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, errors in curves.items():
        values, shares = cumulative(errors)
        axes.step(100 * values, 100 * shares, where="post", label=name)
    axes.set(xlim=(0, 100 * LIMIT), ylim=(0, 100), xlabel=f"NME in % of {norm}", ylabel="faces in %")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    save_plot(figure, path)
