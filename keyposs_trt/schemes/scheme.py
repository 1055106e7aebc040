"""Landmark schemes: which points a face has, and how they belong together. The schemes are TOML files of this folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class Scheme:
    """The points of one annotation scheme, L of them.

    Right and left are the person's own: the right eye stands on the left of a photograph.

    Attributes:
        name: short name, as in model metadata.
        title: name to print.
        names: L point names.
        flip: [L] intp, read-only; ``points[flip]`` of a mirrored face is in the scheme's order again.
        norm_name: the norm of the published figures: a key of ``norms``, or ``box``.
        norms: name -> two groups of indices; the norm is the distance between the means of the groups.
        lines: index paths to draw; a closed path repeats its first index.
        parts: jaw, brows, nose, eyes, mouth -> indices; together each point once.
        subsets: name of another scheme -> the indices that give its points, in its order.
    """

    name: str
    title: str
    names: tuple[str, ...]
    flip: NDArray[np.intp]
    norm_name: str
    norms: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    lines: tuple[tuple[int, ...], ...]
    parts: Mapping[str, tuple[int, ...]]
    subsets: Mapping[str, tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def norm(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Two groups of indices: those of ``norm_name``, or the outer eye corners where that is the box."""
        return self.norms.get(self.norm_name, self.norms["inter_ocular"])


def scheme_names() -> list[str]:
    """Names of the schemes, sorted; aliases are left out."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


@cache
def load_scheme(name: str) -> Scheme:
    """The scheme of that name or alias.

    Raises:
        UsageError: there is no such scheme.
    """
    for stem in scheme_names():
        data = _read(stem)
        if name == stem or name in data.get("aliases", ()):
            return _scheme(stem, data)
    raise UsageError(f"There is no landmark scheme '{name}'; choose one of {', '.join(scheme_names())}.")


@cache
def _read(stem: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{stem}.toml").read_text(encoding="utf-8"))


def _scheme(name: str, data: dict[str, Any]) -> Scheme:
    flip = np.arange(len(data["names"]))
    for a, b in data["flip"]:
        flip[a], flip[b] = b, a
    flip.setflags(write=False)
    return Scheme(
        name=name,
        title=data["title"],
        names=tuple(data["names"]),
        flip=flip,
        norm_name=data["norm"],
        norms=MappingProxyType({k: (tuple(a), tuple(b)) for k, (a, b) in data["norms"].items()}),
        lines=tuple(map(tuple, data["lines"])),
        parts=_index_table(data["parts"]),
        subsets=_index_table(data.get("subsets", {})),
    )


def _index_table(table: dict[str, list[int]]) -> Mapping[str, tuple[int, ...]]:
    return MappingProxyType({k: tuple(v) for k, v in table.items()})
