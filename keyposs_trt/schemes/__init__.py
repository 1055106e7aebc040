"""Landmark schemes as data: names, mirror pairs, norms, lines to draw."""

from __future__ import annotations

from keyposs_trt.schemes.scheme import Scheme, load_scheme, scheme_names

__all__ = ["Scheme", "load_scheme", "scheme_names"]
