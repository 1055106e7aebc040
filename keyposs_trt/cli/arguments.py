"""Kinds of values that several verbs take."""

from __future__ import annotations

import argparse


def whole_number(text: str) -> int:
    """A whole number of at least 1, for ``type=`` of an argument."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return value
