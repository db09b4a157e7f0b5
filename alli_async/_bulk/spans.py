"""What a span is cut into: windows, stretches that nobody has taken yet, and the ids that were met."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from .scale import Density

# How often it is tried whether ends can be moved, where it could not be seen, and in how many pages each time.
_TRIALS = 8
_PATIENCE = 20
# New rows that are more than chance.
_A_FEW = 25


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


class Trial:
    """Whether the end of a window can be moved while it is walked: tried on one, before it is done to others.

    A server may refuse a cursor that comes with another end; then the next page tells. Or the cursor carries the
    end that it was made with: then the window walks on to that, and nothing is met behind the cut that it does not
    meet. What lies behind the cut is held back until the next page is there.

    Attributes:
        told: The caller tells with which end pages were asked for.
        passed: Ends can be moved.
    """

    def __init__(self) -> None:
        self.told = False
        self.passed = False
        self._left = _TRIALS
        self._window: Window | None = None
        self._behind: Stretch | None = None
        self._walking: dict[Window, bool] = {}
        self._held = self._ended = False
        self._until = 0

    @property
    def wanted(self) -> bool:
        """Whether a window should be cut to see."""
        return not self.passed and self._left > 0 and self._window is None

    def begin(self, window: Window, behind: Stretch) -> None:
        """A window was cut."""
        self._left -= 1
        self._window, self._behind, self._held = window, behind, True
        self._until = window.pages + _PATIENCE

    def page(self, window: Window, narrowed: bool) -> Stretch | None:
        """A page of any window is there. Gives what lies behind the cut, once it may be taken."""
        if window.origin is self._behind:
            self._walking[window] = True
            self._judge()
        elif self._held and window is self._window and self._behind is not None:
            self._held = False
            if narrowed:
                return self._behind
            window.end = self._behind.end
            self._forget()
        elif window is self._window and window.pages > self._until:
            # It met a crowd, and another will tell sooner; or it is behind the cut, and the server goes on there.
            if window.end is not None and window.position >= window.end:
                self._left = 0
            self._forget()
        return None

    def finish(self, window: Window) -> None:
        """Any window was walked to its end."""
        if window is self._window and self._held:
            # It was at its end already.
            self._forget()
        elif window is self._window:
            self._ended = True
        elif window in self._walking:
            self._walking[window] = False
        self._judge()

    def _judge(self) -> None:
        if self._window is None or not self._ended:
            return
        new = sum(len(each.family.ids - self._window.family.ids) for each in self._walking)
        # Where the list goes on growing, a few can be new in any case.
        self.passed = new > _A_FEW
        if self.passed or (self._walking and not any(self._walking.values())):
            self._forget()

    def _forget(self) -> None:
        self._window = self._behind = None
        self._walking = {}
        self._held = self._ended = False


def bound(value: float | None, sign: int = 1) -> float:
    """A bound as a number that can be compared."""
    return sign * math.inf if value is None else value
