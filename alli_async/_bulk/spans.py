"""What a span is cut into: windows, stretches that nobody has taken yet, and the ids that were met."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from .scale import Density


@dataclass(eq=False, slots=True)
class Family:
    """The ids that a window has met, among those of all the others.

    Attributes:
        start: Where its rows begin.
        reach: Up to where they can lie.
        ids: Of the rows that this window has met.
    """

    start: float
    reach: float
    _met: set[str]
    ids: set[str] = field(default_factory=set)

    def fresh(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that no window has met; they count as met now."""
        met = set(ids)
        self.ids |= met
        met -= self._met
        self._met |= met
        return met

    def forget(self) -> None:
        """No window can meet its rows any more."""
        self._met -= self.ids
        self.ids.clear()


@dataclass(eq=False, slots=True)
class Stretch:
    """A part of the span that is still to be taken.

    Attributes:
        low: Where it begins.
        high: Where it ends.
        start: Where a window on it begins, which is before `low`; None for no bound.
        end: Where a window on it ends, which is after `high`; None for no bound.
        density: What is known of its rows.
    """

    low: float
    high: float
    start: float | None
    end: float | None
    density: Density


@dataclass(eq=False, slots=True)
class Window:
    """A span of first chat times that one cursor walks, in ascending order.

    Attributes:
        start: Rows from here on; None for no bound.
        end: Rows up to here; None for no bound. It moves when the window is cut.
        family: The ids it has met.
        position: About where the walk is.
        origin: What it was taken from.
        density: What its latest pages tell of its rows.
        rows: How many it has seen.
        pages: In how many pages.
        telling: How many of these ended later than the one before; of rows at one instant, only the last does.
    """

    start: float | None
    end: float | None
    family: Family
    position: float
    origin: Stretch
    density: Density
    rows: int = 0
    pages: int = 0
    telling: int = 0


def bound(value: float | None, sign: int = 1) -> float:
    """A bound as a number that can be compared."""
    return sign * math.inf if value is None else value
