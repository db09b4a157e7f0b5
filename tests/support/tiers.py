"""Which values of a parameter every change is tested with, and which `.ci/run` alone tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(number: int, values: Iterable[Any]) -> list[Any]:
    """The values of one parameter, or the tuples of several; all but the first of each `number` are marked slow.

    It is for long tables whose rows go one way through the code and differ in what meets them there.
    """
    found = []
    for at, value in enumerate(values):
        row = value if isinstance(value, tuple) else (value,)
        found.append(pytest.param(*row, marks=[pytest.mark.slow] if at % number else []))
    return found
