"""TIME: the moments that options take, as people type them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

import click

TIME_HELP = (
    "TIME is a date (2026-01-31 or 20260131), a date and time (2026-01-31T09:30, with Z or +09:00 for another "
    "time zone), today, yesterday, now, a time ago (7d, 12h, 30m), or @EPOCH (seconds, or milliseconds from 1e11 "
    "on). Without a zone, the time zone of this machine is meant. As an upper bound a date includes that day."
)
_EXAMPLES = (
    "2026-01-31, 2026-01-31T09:30, 2026-01-31T00:30Z, 20260131, today, yesterday, now, 7d, 12h, @1769817600"
)

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}")
_DATE_TIME = re.compile(r"(?:\d{4}-\d{2}-\d{2}|\d{8})[Tt ]\d{2}[:\d.,]*(?:[Zz]|[+-]\d{2}(?::?\d{2})?)?")
_AGO = re.compile(r"(\d{1,9})([dhm])")
_EPOCH = re.compile(r"@(\d{1,16}(?:\.\d{1,9})?)")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
# From this number on an @EPOCH counts milliseconds: as seconds it is the year 5138, as milliseconds March 1973.
_FIRST_MILLISECONDS = 1e11
# The end of a day that an upper bound includes. Servers count milliseconds.
_DAY_END = timedelta(days=1) - timedelta(milliseconds=1)
# Where `ctx.meta` keeps the moments of a command, for whoever wants to say what they mean.
_META = "alli_async.moments"


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment that was read from an option.

    Attributes:
        option: The option, as it is typed.
        text: The text that was given.
        value: The moment, with a time zone.
        is_local: Whether the time zone of this machine was assumed.
    """

    option: str
    text: str
    value: datetime
    is_local: bool

    @property
    def is_relative(self) -> bool:
        """Whether the same text means another moment at another time, like `7d` or `today`."""
        return not any(form.fullmatch(self.text.strip()) for form in (_DATE, _DATE_TIME, _EPOCH))

    def __str__(self) -> str:
        shown = self.value.isoformat(sep=" ", timespec="milliseconds" if self.value.microsecond else "seconds")
        zone = " (the time zone of this machine)" if self.is_local else ""
        return f"{self.option} {self.text} means {shown}{zone}"


def parse(text: str, *, now: datetime, zone: tzinfo | None = None, is_end: bool = False) -> tuple[datetime, bool]:
    """Read a moment.

    Args:
        text: The text.
        now: The present moment, with a time zone.
        zone: The time zone of a text without one; None for that of this machine.
        is_end: Whether the moment is an upper bound, which includes the day that it names.

    Returns:
        The moment, with a time zone, and whether that zone was assumed.

    Raises:
        ValueError: The text is no moment.
    """
    text = text.strip()
    if (day := _day(text.lower(), now.astimezone(zone))) is not None:
        start = _aware(datetime.combine(day, time.min), zone)
        # A day has 23 or 25 hours where clocks change, so its end is counted without a zone.
        end = _aware(datetime.combine(day, time.min) + _DAY_END, zone)
        return (end if is_end else start), True
    if text.lower() == "now":
        return now, False
    if match := _AGO.fullmatch(text.lower()):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])}), False
    if match := _EPOCH.fullmatch(text):
        number = float(match[1])
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return epoch + timedelta(seconds=number / 1000 if number >= _FIRST_MILLISECONDS else number), False
    if _DATE_TIME.fullmatch(text):
        found = datetime.fromisoformat(text.upper())
        return (_aware(found, zone), True) if found.tzinfo is None else (found, False)
    raise ValueError("no moment")


def _day(text: str, now: datetime) -> date | None:
    if text in ("today", "yesterday"):
        return now.date() - timedelta(days=text == "yesterday")
    return date.fromisoformat(text) if _DATE.fullmatch(text) else None


def _aware(moment: datetime, zone: tzinfo | None) -> datetime:
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


class TimeType(click.ParamType[datetime]):
    """The type of an option that takes a moment.

    Args:
        is_end: Whether the moment is an upper bound, which includes the day that it names.
    """

    name = "time"

    def __init__(self, *, is_end: bool = False) -> None:
        self._is_end = is_end

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read a moment, and note what it means."""
        if isinstance(value, datetime):
            return value
        try:
            found, is_local = parse(value, now=datetime.now(UTC), is_end=self._is_end)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is not a time{_why(value)}. Examples: {_EXAMPLES}", param, ctx)
        if ctx is not None and param is not None:
            option = max(param.opts, key=len)
            ctx.meta.setdefault(_META, []).append(Moment(option, value, found, is_local))
        return found


def _why(text: str) -> str:
    """What is unclear about a number without a mark."""
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        return f": write @{text} for seconds or milliseconds since 1970"
    if re.fullmatch(r"\d{4}", text):
        return f": write {text}-01-01 for the beginning of that year"
    return ""


def moments_of(ctx: click.Context) -> list[Moment]:
    """The moments that a command was given."""
    found: list[Moment] = ctx.meta.get(_META, [])
    return found
