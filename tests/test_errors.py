"""The error tree."""

from __future__ import annotations

import inspect

import pytest

from keyposs_trt import errors

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_ours_and_in_the_picture(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.KeypossError)
    assert kind.__name__ in (errors.__doc__ or "")
    assert kind.__doc__


def test_exit_codes() -> None:
    assert {c.__name__: c.exit_code for c in CLASSES if c.exit_code != 1} == {"UsageError": 2}
