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


def box_scale(text: str) -> float:
    """A number from 0.1 to 10, for ``type=`` of an argument."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 10:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0.1 to 10")
    return value
