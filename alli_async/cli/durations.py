"""Durations and sizes: as people type and read them."""

from __future__ import annotations

import re
from typing import Any

import click

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


class DurationType(click.ParamType[float]):
    """The type of an option that takes a duration; its value are seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a duration."""
        if isinstance(value, (int, float)):
            return float(value)
        found = _DURATION.fullmatch(value.strip().lower())
        if found is None:
            self.fail(f"{value!r} is not a duration. Examples: 90, 90s, 15m, 2h, 1d", param, ctx)
        return float(found[1]) * _SECONDS[found[2] or "s"]


def clock_text(seconds: float) -> str:
    """A duration as a clock shows it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size_text(count: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
