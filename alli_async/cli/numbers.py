"""Numbers that options take: a number that cannot be right is refused in plain words."""

from __future__ import annotations

import math
from typing import Any

import click


class WholeNumber(click.IntRange):
    """The type of an option that takes a whole number between bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a whole number."""
        try:
            number = int(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a whole number{_bounds_text(self)}", param, ctx)
        if not _is_within(self, number):
            self.fail(f"{value!r} is not a whole number{_bounds_text(self)}", param, ctx)
        return number

    def _describe_range(self) -> str:
        """The bounds as the help shows them: one bound alone needs no words."""
        return "" if self.min is None or self.max is None else f"{self.min:g} to {self.max:g}"


class Number(click.FloatRange):
    """The type of an option that takes a number between bounds, which is never infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or not _is_within(self, number):
            self.fail(f"{value!r} is not a number{_bounds_text(self)}", param, ctx)
        return number

    def _describe_range(self) -> str:
        return ""


def _is_within(kind: click.IntRange | click.FloatRange, number: float) -> bool:
    low, high = kind.min, kind.max
    is_too_low = low is not None and (number <= low if kind.min_open else number < low)
    return not is_too_low and (high is None or number <= high)


def _bounds_text(kind: click.IntRange | click.FloatRange) -> str:
    """The bounds in words, for the end of a sentence; empty where there are none."""
    if kind.min is not None and kind.max is not None:
        first = f"above {kind.min:g} and up" if kind.min_open else f"from {kind.min:g}"
        return f" {first} to {kind.max:,.0f}"
    if kind.min is not None:
        return f" above {kind.min:g}" if kind.min_open else f" of at least {kind.min:g}"
    return ""
