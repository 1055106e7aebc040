from __future__ import annotations

import argparse

import pytest

from keyposs_trt.cli.arguments import whole_number


def test_whole_numbers_of_at_least_1():
    assert [whole_number(text) for text in ("1", "0012", " 7 ")] == [1, 12, 7]


@pytest.mark.parametrize("text", ["0", "-3", "2.5", "", "many"])
def test_anything_else_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        whole_number(text)
