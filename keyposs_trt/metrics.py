"""Accuracy of landmarks: normalised mean error (NME), failure rate (FR), area under the cumulative error curve (AUC).

As published for WFLW, 300W and COFW: NME is the mean over points of |p - g| / norm for a face, then the mean over
faces; FR@t is the share of faces with NME > t; AUC@t is the area under the share of faces with NME <= e, for e from
0 to t, divided by t. Which norm and which boxes a figure uses must be said beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from keyposs_trt.schemes import Scheme

BOX = "box"


def normaliser(scheme: Scheme, truth: ArrayLike, which: str | None = None, boxes: ArrayLike | None = None) -> NDArray[np.float64]:
    """The norm that errors of each face are divided by.

    Args:
        scheme: the landmark scheme of ``truth``.
        truth: [F, L, 2] true points in pixels.
        which: ``inter_ocular``, ``inter_pupil`` or ``box`` (square root of the area); None takes the one that figures
            on the scheme's data set are published with.
        boxes: [F, 4] x1 y1 x2 y2 face boxes in pixels, needed for ``box`` alone.

    Returns:
        [F] float64, pixels.

    Raises:
        UsageError: the scheme has no such norm, or ``box`` is asked for without boxes.
    """
    which = which or scheme.norm_name
    if which == BOX:
        if boxes is None:
            raise UsageError(f"NME by box needs the face boxes; give them, or choose one of {', '.join(scheme.norms)}.")
        b = np.asarray(boxes, np.float64)
        return np.sqrt((b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]))
    if which not in scheme.norms:
        raise UsageError(f"Scheme '{scheme.name}' has no norm '{which}'; choose one of {', '.join([*scheme.norms, BOX])}.")
    g = np.asarray(truth, np.float64)
    a, b = scheme.norms[which]
    return np.linalg.norm(g[..., a, :].mean(-2) - g[..., b, :].mean(-2), axis=-1)


def nme(points: ArrayLike, truth: ArrayLike, norm: ArrayLike, visible: ArrayLike | None = None) -> NDArray[np.float64]:
    """Normalised mean error of each face.

    Args:
        points: [F, L, 2] predicted points, pixels.
        truth: [F, L, 2] true points, pixels.
        norm: [F] pixels, see ``normaliser``.
        visible: [F, L]; points where it is 0 or False are left out. None counts every point.

    Returns:
        [F] float64, a share (0.04 is 4 %); NaN where a predicted point that counts is NaN.

    Raises:
        DataError: shapes differ, a norm is not a positive number, or a face has no visible point.
    """
    p, g, n = (np.asarray(v, np.float64) for v in (points, truth, norm))
    if p.shape != g.shape or p.ndim != 3 or n.shape != p.shape[:1]:
        raise DataError(f"NME needs points and truth [F, L, 2] and norm [F], not {p.shape}, {g.shape} and {n.shape}.")
    seen = np.ones(p.shape[:2], bool) if visible is None else np.asarray(visible).astype(bool)
    if seen.shape != p.shape[:2]:
        raise DataError(f"NME needs visible [F, L] = {p.shape[:2]}, not {seen.shape}.")
    for bad, what in ((~(np.isfinite(n) & (n > 0)), "a norm that is not a positive number"), (~seen.any(1), "no visible point")):
        if bad.any():
            raise DataError(f"Face {int(np.argmax(bad))} has {what}; correct its annotation or leave it out.")
    error = np.where(seen, np.linalg.norm(p - g, axis=-1), 0)
    return error.sum(1) / seen.sum(1) / n


def failure_rate(errors: ArrayLike, threshold: float = 0.1) -> float:
    """FR: the share of faces whose NME [F] is above ``threshold``; NaN counts as a failure.

    Raises:
        DataError: there are no faces.
    """
    return float(np.mean(~(_faces(errors) <= threshold)))


def auc(errors: ArrayLike, threshold: float = 0.1) -> float:
    """AUC: area under the cumulative error curve of NME [F] from 0 to ``threshold``, divided by ``threshold``.

    The curve is a step function, so the area is exact: a face with error e < t gives (t - e) / t, others nothing.

    Raises:
        DataError: there are no faces.
    """
    e = _faces(errors)
    return float(np.mean(np.clip(1 - np.where(np.isnan(e), np.inf, e) / threshold, 0, 1)))


def _faces(errors: ArrayLike) -> NDArray[np.float64]:
    e = np.asarray(errors, np.float64)
    if e.ndim != 1 or not len(e):
        raise DataError(f"The errors of at least one face [F] are needed, not an array of shape {e.shape}.")
    return e
