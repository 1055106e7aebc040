"""NME, FR and AUC of located landmarks: by decoder, norm, subset of the data set and part of the face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.metrics import BOX, auc, failure_rate, nme, normaliser
from keyposs_trt.schemes import load_scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from keyposs_trt.datasets import Dataset
    from keyposs_trt.evaluation.located import Located

ALL = "all"


@dataclass(frozen=True)
class Row:
    """Figures of some faces by one decoder; shares, not %.

    Attributes:
        decoder, norm, subset: which.
        faces: how many, those the detector missed included.
        missed: how many the detector did not find.
        nme: mean over the faces that were found; NaN where there is none.
        fr_008, fr_010: share of faces with an NME above 0.08 and 0.1; a missed face fails.
        auc_010: area under the cumulative error curve up to 0.1, over 0.1; a missed face adds nothing.
    """

    decoder: str
    norm: str
    subset: str
    faces: int
    missed: int
    nme: float
    fr_008: float
    fr_010: float
    auc_010: float


@dataclass(frozen=True, eq=False)
class Figures:
    """What was measured.

    Attributes:
        norms: names; the first is that of ``parts``.
        lengths: norm -> [F] pixels; NaN for a face on which the norm cannot be measured, as its points are not labelled.
        errors: decoder -> norm -> [F] NME of each face; NaN where it was missed or the norm cannot be measured.
        rows: by decoder, norm and subset.
        parts: decoder -> part of the face -> NME, by the first norm; NaN where no face has any of its points.
        norm_box: where the boxes of the norm ``box`` are from, ``annotated`` or ``landmarks``.
    """

    norms: tuple[str, ...]
    lengths: dict[str, NDArray[np.float64]]
    errors: dict[str, dict[str, NDArray[np.float64]]]
    rows: tuple[Row, ...]
    parts: dict[str, dict[str, float]]
    norm_box: str


def check_norms(scheme_name: str, norms: Sequence[str] | None) -> tuple[str, ...]:
    """The norms to use: those asked for, or the one of the scheme's published figures.

    Raises:
        UsageError: the scheme has no such norm, or it is named twice.
    """
    scheme = load_scheme(scheme_name)
    chosen = tuple(norms or (scheme.norm_name,))
    for number, name in enumerate(chosen):
        if name != BOX and name not in scheme.norms:
            raise UsageError(f"Scheme '{scheme.name}' has no norm '{name}'; choose from {', '.join([*scheme.norms, BOX])}.")
        if name in chosen[:number]:
            raise UsageError(f"The norm '{name}' is named twice; name it once.")
    return chosen


def figures_of(located: Located, norms: Sequence[str] | None = None) -> Figures:
    """All figures of located landmarks; only labelled points count.

    Raises:
        UsageError: the scheme has no such norm.
        DataError: a norm cannot be measured on any face.
    """
    dataset = located.dataset
    chosen = check_norms(dataset.scheme, norms)
    boxes, norm_box = _norm_boxes(dataset)
    lengths = {name: _lengths(located, name, boxes) for name in chosen}
    subsets = {ALL: np.arange(len(dataset)), **dataset.subsets}
    errors: dict[str, dict[str, NDArray[np.float64]]] = {}
    rows: list[Row] = []
    for number, decoder in enumerate(located.decoders):
        points = located.points[number]
        errors[decoder] = {name: _errors(points, located.truth, located.labelled, lengths[name]) for name in chosen}
        for name in chosen:
            rows += [_row(decoder, name, s, i, errors[decoder][name], lengths[name], located.missed) for s, i in subsets.items()]
    parts = {decoder: _parts(located, number, lengths[chosen[0]]) for number, decoder in enumerate(located.decoders)}
    return Figures(chosen, lengths, errors, tuple(rows), parts, norm_box)


def _norm_boxes(dataset: Dataset) -> tuple[NDArray[np.float32], str]:
    """[F, 4] the boxes of the norm ``box``: the annotated ones where every face has one, else those around the points."""
    annotated = [face.box for face in dataset.faces if face.box is not None]
    if len(annotated) == len(dataset):
        return np.stack(annotated), "annotated"
    return np.stack([face.landmark_box for face in dataset.faces]), "landmarks"


def _lengths(located: Located, name: str, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    scheme = load_scheme(located.dataset.scheme)
    with np.errstate(invalid="ignore"):  # points that are not labelled may be anything
        lengths = normaliser(scheme, located.truth, name, boxes)
    known = np.ones(len(lengths), bool)
    if name == BOX:
        known = (boxes[:, 2:] > boxes[:, :2]).all(1)
    else:
        known = located.labelled[:, [i for group in scheme.norms[name] for i in group]].all(1)
    known &= np.isfinite(lengths) & (lengths > 0)
    if not known.any():
        raise DataError(f"The norm '{name}' cannot be measured on any face, as its points are not labelled; choose another with --norm.")
    return np.where(known, lengths, np.nan)


def _errors(
    points: NDArray[np.float32], truth: NDArray[np.float32], labelled: NDArray[np.bool_], lengths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[F] NME; NaN where the norm is, where no point is labelled, and where points are NaN."""
    out = np.full(len(lengths), np.nan)
    use = np.isfinite(lengths) & labelled.any(1)
    if use.any():
        out[use] = nme(points[use], truth[use], lengths[use], labelled[use])
    return out


def _row(
    decoder: str,
    norm: str,
    subset: str,
    index: NDArray[np.intp],
    errors: NDArray[np.float64],
    lengths: NDArray[np.float64],
    missed: NDArray[np.bool_],
) -> Row:
    index = index[np.isfinite(lengths[index])]
    e = errors[index]
    if not len(e):
        nan = float("nan")
        return Row(decoder, norm, subset, 0, 0, nan, nan, nan, nan)
    return Row(decoder, norm, subset, len(e), int(missed[index].sum()), _mean(e), failure_rate(e, 0.08), failure_rate(e, 0.1), auc(e, 0.1))


def _parts(located: Located, number: int, lengths: NDArray[np.float64]) -> dict[str, float]:
    found, truth, labelled = located.points[number], located.truth, located.labelled
    indices = {name: list(index) for name, index in load_scheme(located.dataset.scheme).parts.items()}
    return {name: _mean(_errors(found[:, i], truth[:, i], labelled[:, i], lengths)) for name, i in indices.items()}


def _mean(errors: NDArray[np.float64]) -> float:
    found = errors[np.isfinite(errors)]
    return float(found.mean()) if len(found) else float("nan")
