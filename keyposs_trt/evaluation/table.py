"""NME of several models side by side: a row for each decoder, a column for each model, named by its heatmap size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyposs_trt.evaluation.figures import ALL
from keyposs_trt.evaluation.record import percent, plain, table_lines, to_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyposs_trt.evaluation.models import Evaluation


@dataclass(frozen=True)
class Table:
    """The NME of all faces by the first norm.

    Attributes:
        norm: of the NME.
        models: what the user calls the model of each column; the largest heatmaps first.
        sizes: the heatmap size of each column.
        values: decoder -> NME for each column; a share, NaN where it could not be measured.
    """

    norm: str
    models: tuple[str, ...]
    sizes: tuple[int, ...]
    values: dict[str, tuple[float, ...]]

    @property
    def heads(self) -> tuple[str, ...]:
        """A title for each column: the size alone where all differ."""
        if len(set(self.sizes)) == len(self.sizes):
            return tuple(str(size) for size in self.sizes)
        return tuple(f"{model} ({size})" for model, size in zip(self.models, self.sizes, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Shares, not %; None for what could not be measured."""
        return {
            "norm": self.norm,
            "subset": ALL,
            "columns": [{"model": m, "heatmap_size": s} for m, s in zip(self.models, self.sizes, strict=True)],
            "nme": {decoder: [plain(v) for v in row] for decoder, row in self.values.items()},
        }

    def to_lines(self) -> Iterator[str]:
        """For a reader, in %."""
        yield f"NME % by heatmap size, norm {self.norm}"
        yield from table_lines(("decoder", *self.heads), self._rows(), texts=1)

    def to_markdown(self) -> str:
        """A Markdown table, in %."""
        lines = [("decoder", *self.heads), ("---", *["---:"] * len(self.heads)), *self._rows()]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def _rows(self) -> list[tuple[str, ...]]:
        return [(decoder, *(percent(v) for v in row)) for decoder, row in self.values.items()]


def table_of(evaluations: Sequence[Evaluation]) -> Table:
    """The table of models that were evaluated by the same decoders and norms."""
    sizes = [evaluation.record["model"]["heatmap_size"] for evaluation in evaluations]
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    norm = evaluations[0].figures.norms[0]
    values: dict[str, tuple[float, ...]] = {}
    for i in order:
        for row in evaluations[i].figures.rows:
            if (row.norm, row.subset) == (norm, ALL):
                values[row.decoder] = (*values.get(row.decoder, ()), row.nme)
    return Table(norm, tuple(evaluations[i].title for i in order), tuple(sizes[i] for i in order), values)


def tree_of(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Everything that was measured, ready for JSON: the record of one model, or those of several and their table."""
    if len(evaluations) == 1:
        return evaluations[0].record
    return {"models": [evaluation.record for evaluation in evaluations], "table": table_of(evaluations).to_json()}


def lines_of(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """What was measured for a reader: the lines of each model, and the table where there are several."""
    for evaluation in evaluations:
        yield from to_lines(evaluation.record, evaluation.figures)
        if len(evaluations) > 1:
            yield ""
    if len(evaluations) > 1:
        yield from table_of(evaluations).to_lines()
