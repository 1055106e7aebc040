"""Polynomials of numbers that a graph holds one of a map, as ONNX operators.

Everything is rows [N, k, L]: row i holds one number of every map. A polynomial of such numbers, be it a determinant, a product of small
matrices or a Schur complement, takes its factors by a Gather of rows each, multiplies them, and adds the products up by a matrix of
constants from the left. Two factors are four nodes, however many polynomials they serve, and runtimes pay for small nodes, not for rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from keyposs_trt.decode.onnx_fragment import Fragment

ONE, ZERO = "one", "zero"  # rows of constants

Polynomial = dict[tuple[str, ...], float]  # names of the factors of each term: its coefficient


class Rows(NamedTuple):
    """A tensor [N, k, L] and what its k rows are."""

    tensor: str
    names: tuple[str, ...]


class Products(NamedTuple):
    """A tensor [N, k, L] of products and the factors of each."""

    tensor: str
    keys: tuple[tuple[str, ...], ...]


def times(*factors: Polynomial) -> Polynomial:
    """The product of polynomials, the factors of each term in alphabetical order."""
    out: Polynomial = {(): 1.0}
    for factor in factors:
        out = plus(*({tuple(sorted(k + n)): v * w} for k, v in out.items() for n, w in factor.items()))
    return out


def plus(*terms: Polynomial) -> Polynomial:
    """The sum of polynomials without the terms that vanish."""
    out: Polynomial = {}
    for term in terms:
        for key, value in term.items():
            out[key] = out.get(key, 0.0) + value
    return {key: value for key, value in out.items() if value}


def symbol(name: str, factor: float = 1.0) -> Polynomial:
    """One number as a polynomial."""
    return {(name,): factor}


def pick(f: Fragment, name: str, rows: Rows, names: Iterable[str]) -> str:
    """The named rows in the order asked for."""
    chosen = [rows.names.index(n) for n in names]
    if chosen == [*range(len(rows.names))]:
        return rows.tensor
    return f("Gather", name, rows.tensor, f.constant(f"{name}/rows", chosen, np.int32), axis=1)


def joined(f: Fragment, name: str, *parts: Rows) -> Rows:
    """The rows of several tensors as one; where two have one name, the first counts."""
    return Rows(f("Concat", name, *(p.tensor for p in parts), axis=1), tuple(n for p in parts for n in p.names))


def products(f: Fragment, name: str, sources: Sequence[Rows], *polynomials: Mapping[str, Polynomial]) -> Products:
    """All products that the polynomials need; factor i of each is a row of source i."""
    keys = tuple(dict.fromkeys(key for group in polynomials for polynomial in group.values() for key in polynomial))
    out = ""
    for i, source in enumerate(sources):
        factor = pick(f, f"{name}/factor_{i}", source, [key[i] for key in keys])
        out = f("Mul", f"{name}/product_{i}", out, factor) if out else factor
    return Products(out, keys)


def sums(f: Fragment, name: str, p: Products, polynomials: Mapping[str, Polynomial]) -> Rows:
    """The polynomials, from their products."""
    matrix = [[polynomial.get(key, 0.0) for key in p.keys] for polynomial in polynomials.values()]
    return Rows(f("MatMul", name, f.constant(f"{name}/coefficients", matrix), p.tensor), tuple(polynomials))


def linear(f: Fragment, name: str, rows: Rows, outputs: Mapping[str, Mapping[str, float]]) -> Rows:
    """Linear combinations of rows."""
    polynomials = {out: {(n,): v for n, v in combination.items()} for out, combination in outputs.items()}
    return sums(f, name, Products(rows.tensor, tuple((n,) for n in rows.names)), polynomials)


def quotients(f: Fragment, name: str, p: Products, numerators: Mapping[str, Polynomial]) -> Rows:
    """Polynomials over the one named ``one``, which so gives 1."""
    above = sums(f, f"{name}/numerators", p, numerators)
    return Rows(f("Div", name, above.tensor, pick(f, f"{name}/denominator", above, [ONE])), above.names)
