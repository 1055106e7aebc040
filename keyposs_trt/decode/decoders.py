"""All decoders by name, behind one function."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from keyposs_trt.decode.dark import dark, dark_border
from keyposs_trt.decode.gauss_newton import gn
from keyposs_trt.decode.linear import lls
from keyposs_trt.decode.multilateration import wls
from keyposs_trt.decode.peaks import argmax, shift, soft_argmax
from keyposs_trt.decode.popos import popos
from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike

    from keyposs_trt.decode.decoded import Decoded


@dataclass(frozen=True, slots=True)
class Decoder:
    """A way from heatmaps to landmarks.

    Attributes:
        function: takes heatmaps [..., L, H, W] and its parameters by name.
        description: one line.
        takes_sigma: whether it uses the sigma of the training target.
        gives_covariance: whether the covariance of its landmarks is not None.
    """

    function: Callable[..., Decoded]
    description: str
    takes_sigma: bool = False
    gives_covariance: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters beside the heatmaps and sigma."""
        fixed = self.function.keywords if isinstance(self.function, partial) else {}
        return tuple(name for name in list(inspect.signature(self.function).parameters)[1:] if name not in {"sigma", *fixed})


DECODERS: Mapping[str, Decoder] = {
    "wls": Decoder(wls, "self-calibrating weighted multilateration", takes_sigma=True, gives_covariance=True),
    "wls_known": Decoder(partial(wls, prior=float("inf")), "the same, taking the maps for round Gaussians of sigma", True, True),
    "gn": Decoder(gn, "KeyPosS as published: Gauss-Newton on the largest values", takes_sigma=True),
    "lls": Decoder(lls, "KeyPosS, linear: the brightest 2x2 block near the peak", takes_sigma=True),
    "popos": Decoder(popos, "POPoS: the best of a grid of candidates around lls", takes_sigma=True),
    "argmax": Decoder(argmax, "the largest value"),
    "shift": Decoder(shift, "the largest value, 0.25 pixels towards its higher neighbours"),
    "dark": Decoder(dark, "DARK as published: Newton step on the blurred logarithm, none near a border"),
    "dark_border": Decoder(dark_border, "DARK that also refines near a border"),
    "soft_argmax": Decoder(soft_argmax, "the mean place under a softmax"),
}


def decode(heatmaps: ArrayLike, decoder: str = "wls", *, sigma: float = 2.0, **parameters: Any) -> Decoded:
    """Landmarks of heatmaps by any of ``DECODERS``.

    Args:
        heatmaps: [..., L, H, W], float16, float32 or float64. NaN, the infinities and values of 1e20 or more in size are no measurements
            and never the argmax; of equal maxima the first in row-major order counts.
        decoder: its name.
        sigma: sigma of the training target in heatmap pixels; decoders that do not use it take no notice.
        parameters: of the decoder, see its function.

    Returns:
        Points in heatmap pixels, scores in [0, 1] and, from some decoders, a covariance. Every number is finite.

    Raises:
        UsageError: there is no such decoder or parameter, a parameter makes no sense, or the maps have no pixels.
    """
    if decoder not in DECODERS:
        raise UsageError(f"There is no decoder {decoder!r}; {_near(decoder, tuple(DECODERS))}")
    chosen = DECODERS[decoder]
    for name in parameters:
        if name not in chosen.parameters:
            known = chosen.parameters + ("sigma",) * chosen.takes_sigma
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UsageError(f"Decoder {decoder!r} has no parameter {name!r}; {takes}.")
    if chosen.takes_sigma:
        parameters["sigma"] = sigma
    return chosen.function(heatmaps, **parameters)


def _near(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(name), known, 3, 0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(known)}."
