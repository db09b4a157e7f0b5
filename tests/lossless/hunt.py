"""Runs cases with fresh seeds until a time is over, and shrinks one case of each kind of failure."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from .case import Case
from .draws import cases
from .judge import Complaint
from .trial import run

_CASES_A_SEED = 100
# A failure is made smaller for so many seconds, or for so many times as long as its first case took.
_SHRINKING_SECONDS = 45.0
_SHRINKING_CASES = 12
_NO_HABITS = {"conversations", "seed"}
_SHOWN = 6


class _FoundError(AssertionError):
    pass


@dataclass(frozen=True)
class Cause:
    """What is wrong, and the parts of the smallest case that shows it: habits, changes, marks, faults, filters."""

    complaint: str
    parts: frozenset[str]

    def explains(self, other: Cause) -> bool:
        """Whether the other failure is probably this one, with more around it."""
        return self.complaint == other.complaint and self.parts <= other.parts

    def __str__(self) -> str:
        return f"{self.complaint} [{', '.join(sorted(self.parts))}]"


def causes_of(case: Case, complaints: list[Complaint]) -> list[Cause]:
    """What is wrong in a case."""
    reader = "stream" if case.reader.kind == "raw" else case.reader.kind
    parts = frozenset(
        [
            f"reader {reader}",
            *(name for name in case.server if name not in _NO_HABITS),
            *(change.what for change in (*case.history, *case.between, *case.later)),
            *(mark.what for mark in case.marks),
            *(step for script in case.faults for step in script.steps if step != "ok"),
            *(choice.name for choice in case.reader.filters),
        ]
    )
    return [Cause(kind, parts) for kind in {each.kind: None for each in complaints}]


def report(case: Case, complaints: list[Complaint]) -> str:
    """A failure, with the case in a form that can be pasted above a test."""
    lines = "\n".join(f"    {each}" for each in complaints[:_SHOWN])
    more = f"\n    and {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
    return f"@example(case={case!r})\n{lines}{more}"


@dataclass
class _Search:
    """The search in the cases of one seed.

    Attributes:
        known: Causes that were found before.
        until: When the search ends; sooner once there is something to shrink.
        complaint: What is wrong in the case that is being shrunk.
        smallest: The cause and the report of the smallest case so far.
    """

    known: list[Cause]
    until: float
    complaint: str | None = None
    smallest: tuple[Cause, str] | None = field(default=None)

    def try_case(self, case: Case) -> None:
        if time.monotonic() > self.until:
            return
        began = time.monotonic()
        complaints = run(case)
        seconds = time.monotonic() - began
        causes = [one for one in causes_of(case, complaints) if not any(each.explains(one) for each in self.known)]
        if self.complaint is None and causes:
            self.complaint = causes[0].complaint
            self.until = time.monotonic() + max(_SHRINKING_SECONDS, seconds * _SHRINKING_CASES)
        for cause in causes:
            if cause.complaint == self.complaint:
                self.smallest = cause, report(case, complaints)
                raise _FoundError


def hunt(minutes: float, seed: int, *, tell: Callable[[str], None]) -> list[Cause]:
    """Look for failures until the time is over; each cause is told once, at its smallest.

    Args:
        minutes: Minutes to go on.
        seed: The first seed; the next ones follow.
        tell: Called with each report.
    """
    found: list[Cause] = []
    until = time.monotonic() + minutes * 60
    while time.monotonic() < until:
        search = _Search(found, until)
        _search(search, seed)
        if search.smallest is not None:
            cause, text = search.smallest
            found.append(cause)
            tell(f"seed {seed}: {cause}\n{text}\n")
        seed += 1
    return found


def _search(search: _Search, seed: int) -> None:
    @hypothesis.seed(seed)
    @settings(
        max_examples=_CASES_A_SEED,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def attempt(case: Case) -> None:
        search.try_case(case)

    # A failure is flaky for hypothesis when the time for shrinking is over.
    with contextlib.suppress(_FoundError, hypothesis.errors.Flaky):
        attempt()
