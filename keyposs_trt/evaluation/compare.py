"""Precisions, resolutions, decoders and runtimes side by side on one data set, with a verdict on each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import DataError, KeypossError, UsageError
from keyposs_trt.evaluation.candidates import ONNXRUNTIME, Candidate, candidates_of, check_axes
from keyposs_trt.evaluation.comparison import Comparison, Options, Row
from keyposs_trt.evaluation.drift import distances, drift_of, increase_of, pairs_of
from keyposs_trt.evaluation.extras import layers_of, timings_of
from keyposs_trt.evaluation.figures import ALL, check_norms
from keyposs_trt.evaluation.located import in_one_scheme
from keyposs_trt.evaluation.locator import OWN, decoder_names
from keyposs_trt.evaluation.models import Evaluation, Setup, evaluate_models
from keyposs_trt.evaluation.twins import Workshop
from keyposs_trt.evaluation.verdict import ERROR, REFERENCE, Gates, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from keyposs_trt.datasets import Dataset
    from keyposs_trt.evaluation.candidates import Subject

    Progress = Callable[[str, Iterable[Any]], Iterable[Any]]


def compare_models(
    models: Sequence[Subject],
    open_data: Callable[[], Dataset],
    options: Options | None = None,
    progress: Progress = lambda _, faces: faces,
) -> Comparison:
    """Measures every combination that was asked for, each graph once, on the same faces.

    What cannot be measured is a row with its error; the others go on.

    Args:
        models: see ``subjects_of``.
        open_data: gives the data set; called once, after names were checked.
        options: what is compared.
        progress: wraps the models, then the faces of each graph, under a title, to show how far it is.

    Raises:
        UsageError: a name makes no sense, or the models cannot be compared by the same points.
        DataError: the data set cannot be read, or has no faces.
        BackendError: a package for what was asked is missing.
        KeypossError: there is but one candidate, and it cannot be measured.
    """
    options = options or Options()
    _check(options)
    with TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder), options.calibrations)
        engines = options.engines or Path(folder) / "engines"
        candidates = []
        for model in progress("graphs and engines", models):
            candidates += candidates_of(model, workshop, options.precisions, options.runtimes, engines)
        candidates = _unique(candidates)
        if all(c.error for c in candidates):
            raise next(c.error for c in candidates if c.error)
        dataset = _faces(open_data(), candidates, options)
        bench = _Bench(dataset, options, progress)
        rows = [row for c in candidates for row in bench.rows(c, _family(c, candidates))]
        rows = _judged(rows, options.gates)
        if options.latency:
            rows = timings_of(rows, options)
        if options.layers:
            rows = layers_of(rows, options)
    return Comparison(tuple(rows), dataset, bench.norm, bench.boxes, options)


def _check(options: Options) -> None:
    """Refuses what makes no sense, before anything is opened."""
    check_axes(options.precisions, options.runtimes)
    for i, name in enumerate(options.decoders):
        if name not in decoder_names():
            raise UsageError(f"There is no decoder '{name}'; choose from {', '.join(decoder_names())}.")
        if name in options.decoders[:i]:
            raise UsageError(f"The decoder '{name}' is named twice; name it once.")
    for path in options.calibrations:
        if not path.exists():
            raise UsageError(f"There is no calibration '{path}'; give a file of keyposs-trt calibrate, or a folder of them.")
    if options.layers:
        from keyposs_trt.evaluation.layers import require_polygraphy

        require_polygraphy()


def _unique(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without the references that engines bring along where the model is compared itself."""
    found: dict[tuple[object, ...], Candidate] = {}
    for c in candidates:
        place = c.origin if c.reference and c.origin else c.subject.path
        found.setdefault((place.resolve(), c.precision, c.runtime), c)
    return list(found.values())


def _family(candidate: Candidate, candidates: Sequence[Candidate]) -> str:
    """The FP32 model that judges a candidate; of a file that is FP16 or INT8 already the one of its name among those compared.

    Empty where there is none.
    """
    if any(c.reference and candidate.origin == c.origin for c in candidates):
        return str(candidate.origin)
    spec = candidate.spec
    if spec is None:
        return ""
    alike = [
        c.origin
        for c in candidates
        if c.reference
        and c.spec
        and (c.spec.name, c.spec.input_size, c.spec.heatmap_size) == (spec.name, spec.input_size, spec.heatmap_size)
    ]
    stem = (candidate.origin or candidate.subject.path).stem.removesuffix(f"_{candidate.precision}")
    named = [origin for origin in alike if origin and origin.stem == stem]
    return str((named or alike)[0]) if len(named or alike) == 1 else ""


def _faces(dataset: Dataset, candidates: Sequence[Candidate], options: Options) -> Dataset:
    """The faces to look at, with the points that are compared."""
    if not options.as_it_is:
        dataset = in_one_scheme(dataset, [c.spec.scheme for c in candidates if c.spec])
    check_norms(dataset.scheme, None if options.norm is None else [options.norm])
    if not len(dataset):
        raise DataError(f"'{dataset.path}' has no faces to compare on; check it with keyposs-trt dataset.")
    if options.faces is not None and options.faces < len(dataset):
        index = np.linspace(0, len(dataset) - 1, options.faces).round().astype(int).tolist()
        dataset = replace(dataset, faces=tuple(dataset.faces[i] for i in index))
    return dataset


class _Bench:
    """Evaluates files, each of them once."""

    def __init__(self, dataset: Dataset, options: Options, progress: Progress) -> None:
        self._dataset, self._options, self._progress = dataset, options, progress
        self._found: dict[tuple[Path, tuple[str, ...]], Evaluation | KeypossError] = {}
        self.norm = check_norms(dataset.scheme, None if options.norm is None else [options.norm])[0]
        self.boxes = ""

    def rows(self, candidate: Candidate, family: str) -> list[Row]:
        """A row for each decoder, without a verdict on what was measured."""
        rows = []
        for decoder in self._options.decoders:
            of_engine = candidate.plan is not None and decoder == OWN
            twin = candidate.runtime != ONNXRUNTIME and not of_engine and candidate.error is None
            note = candidate.note
            if twin and candidate.plan is not None:
                note = "An engine gives no heatmaps for other decoders."
            row = Row(
                model=candidate.subject.title,
                heatmap=candidate.spec.heatmap_size if candidate.spec else None,
                precision=candidate.precision,
                runtime=candidate.runtime,
                decoder=decoder,
                twin=twin,
                note=note,
                size=candidate.size,
                verdict=Verdict(REFERENCE, REFERENCE),
                family=family,
                candidate=candidate,
            )
            rows.append(self._measured(row, candidate, of_engine))
        return rows

    def _measured(self, row: Row, candidate: Candidate, of_engine: bool) -> Row:
        """With its figures, or the error as its verdict."""
        if candidate.error is not None:
            return _failed(row, candidate.error)
        if of_engine and candidate.plan is not None:
            found = self._evaluate(candidate.plan, (OWN,), candidate.runtime, f"{row.model} {row.precision} {row.runtime}")
        elif candidate.graph is not None:
            found = self._evaluate(candidate.graph.twin, self._options.decoders, ONNXRUNTIME, f"{row.model} {row.precision}")
        else:
            found = UsageError(f"'{row.model}' has no ONNX graph beside it that could be decoded by '{row.decoder}'.")
        if isinstance(found, KeypossError):
            return _failed(row, found)
        measured = next(r for r in found.figures.rows if (r.decoder, r.subset) == (row.decoder, ALL))
        return replace(
            row,
            faces=measured.faces,
            missed=measured.missed,
            nme=measured.nme,
            fr_010=measured.fr_010,
            auc_010=measured.auc_010,
            evaluation=found,
        )

    def _evaluate(self, file: Path, decoders: tuple[str, ...], runtime: str, title: str) -> Evaluation | KeypossError:
        key = (file, decoders)
        if key not in self._found:
            self._found[key] = self._run(Setup(title, str(file), decoders, runtime, self._options.threads))
        return self._found[key]

    def _run(self, setup: Setup) -> Evaluation | KeypossError:
        o = self._options
        setup = replace(setup, boxes=o.boxes, box_scale=o.box_scale, detector=o.detector)
        try:
            found = evaluate_models(
                [setup],
                lambda: self._dataset,
                [self.norm],
                as_it_is=True,
                processes=o.processes,
                progress=lambda faces: self._progress(setup.title, faces),
            )[0]
        except UsageError:
            raise  # the same for all of them: a wrong detector, points that cannot be compared
        except KeypossError as e:
            return e
        crop = found.record["boxes"]
        self.boxes = f"{crop['words']} x {crop['scale'] * crop['crop_scale']:g}"
        return found


def _failed(row: Row, error: KeypossError) -> Row:
    return replace(row, twin=False, verdict=Verdict(ERROR, f"error: {error}"))


def _judged(rows: Sequence[Row], gates: Gates) -> list[Row]:
    """With increase, drift and verdict, against the FP32 row of the same family and decoder on ONNX Runtime."""
    references = {(row.family, row.decoder): row for row in rows if row.is_reference}
    return [_judge(row, references.get((row.family, row.decoder)), gates) for row in rows]


def _judge(row: Row, reference: Row | None, gates: Gates) -> Row:
    if row is reference or row.evaluation is None:
        return row
    if reference is None or reference.evaluation is None:
        missing = "its FP32 model could not be measured" if row.family else "its FP32 model is not among those compared; name it too"
        return replace(row, verdict=Verdict(ERROR, f"error: nothing to judge by: {missing}"))
    first, second = reference.evaluation, row.evaluation
    a, b = pairs_of(first.located, second.located)
    norm = first.figures.norms[0]
    increase, error = increase_of(first.figures.errors[row.decoder][norm][a], second.figures.errors[row.decoder][norm][b])
    indices = (first.located.decoders.index(row.decoder), second.located.decoders.index(row.decoder))
    model = second.record["model"]
    crop = {"input_size": model["input_size"], "crop_scale": model["crop_scale"]}
    drift = drift_of(distances(first.located, second.located, indices, **crop), second.located.dataset.scheme)
    return replace(row, increase=increase, increase_error=error, drift=drift, verdict=judge(row.precision, increase, drift, gates))
