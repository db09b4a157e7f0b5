"""Time windows on the first chat time: how a span is cut so that many cursors can walk at once.

Pure: what is here knows rows and numbers, no server. A span is taken from the left, a slice at a time, in slices
that get smaller towards the end; when nothing is left to take, the window with most still before it is cut in two.
Windows overlap, so it does not matter whether the server's bounds are inclusive, and the outermost are open, so
it does not matter whether the ends of the span are known exactly. Ids tell what came twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# A slice of so many rows keeps the ids that must be remembered few; one of fewer than the least wastes pages.
_MOST_ROWS = 5_000
_LEAST_ROWS = 150
_WORTH_SPLITTING = 200


@dataclass(eq=False, slots=True)
class Family:
    """The windows cut from one slice. They share the ids they have seen, and know the slices beside them."""

    left: Family | None
    ids: set[str] = field(default_factory=set)
    right: Family | None = None
    unfinished: int = 0

    def fresh(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that neither this slice nor the ones beside it have seen; they count as seen now."""
        beside = [family.ids for family in (self.left, self.right) if family is not None]
        new = {one for one in ids if one not in self.ids and not any(one in seen for seen in beside)}
        self.ids |= new
        return new


@dataclass(eq=False, slots=True)
class Window:
    """A span of first chat times that one cursor walks, in ascending order.

    Attributes:
        start: Rows from here on; None for no bound.
        end: Rows up to here; None for no bound. It moves when the window is split.
        family: What it shares with those cut from the same slice.
        position: About where the walk is.
        rows: How many it has seen.
        pages: In how many pages.
    """

    start: float | None
    end: float | None
    family: Family
    position: float
    rows: int = 0
    pages: int = 0


class Plan:
    """Who walks what.

    Args:
        low: About the first chat time of the earliest conversation, in the server's unit.
        high: About that of the latest.
        walkers: How many will ask for windows.
        overlap: By how much windows reach over a cut on either side: the server's resolution, at least.
        density: Rows per unit of time, about, where that is known; it is learnt on the way.
        start: Where the first window begins; None for no bound.
    """

    def __init__(
        self,
        low: float,
        high: float,
        walkers: int,
        *,
        overlap: float,
        density: float = 0.0,
        start: float | None = None,
    ) -> None:
        self.active: list[Window] = []
        self._low = self._frontier = low
        self._high = max(low, high)
        self._walkers = walkers
        self._overlap = overlap
        self._start = start
        self._density = density
        self._rows = 0
        self._time = 0.0
        self._exhausted = False
        self._last: Family | None = None

    def take(self, *, may_split: bool) -> Window | None:
        """The next window to walk; None when there is none now, though there may be later."""
        window = self._split() if self._exhausted and may_split else None if self._exhausted else self._slice()
        if window is not None:
            self.active.append(window)
            window.family.unfinished += 1
        return window

    def walked(self, window: Window, rows: int, position: float) -> None:
        """A page of a window has been seen; `position` is about where it ended."""
        window.rows += rows
        window.pages += 1
        self._rows += rows
        self._advance(window, min(position, self._end(window)))

    def finish(self, window: Window) -> None:
        """A window has been walked to its end."""
        self.active.remove(window)
        self._advance(window, self._end(window))
        family = window.family
        family.unfinished -= 1
        for each in (family.left, family, family.right):
            if each is not None and _settled(each):
                each.ids.clear()

    @property
    def last(self) -> Family | None:
        """The rightmost slice, whose ids are kept to the end."""
        return self._last

    def _end(self, window: Window) -> float:
        return self._high if window.end is None else window.end

    def _advance(self, window: Window, position: float) -> None:
        """Move a window's position on, and learn the density from it: gaps as well as crowds."""
        if position > window.position:
            self._time += position - window.position
            window.position = position
            self._density = max(self._rows, 1) / self._time

    def _slice(self) -> Window:
        remaining = self._high - self._frontier
        width = remaining / (2 * self._walkers)
        if self._density > 0:
            width = min(max(width, _LEAST_ROWS / self._density), _MOST_ROWS / self._density)
        width = max(width, 4 * self._overlap)
        start = self._start if self._last is None else self._frontier - self._overlap
        position = self._frontier
        self._frontier += width
        # What would be left is not worth a window of its own.
        self._exhausted = self._high - self._frontier < width / 2
        family = Family(left=self._last)
        if self._last is not None:
            self._last.right = family
        self._last = family
        return Window(start, None if self._exhausted else self._frontier + self._overlap, family, position)

    def _split(self) -> Window | None:
        """Cut the window with most rows still before it; the new one takes the later half."""
        best = max(self.active, key=self._ahead, default=None)
        if best is None or self._ahead(best) < _WORTH_SPLITTING:
            return None
        end = self._end(best)
        cut = (best.position + end) / 2
        if end - cut < 4 * self._overlap:
            return None
        window = Window(cut - self._overlap, best.end, best.family, cut)
        best.end = cut + self._overlap
        return window

    def _ahead(self, window: Window) -> float:
        """About how many rows a window still has before it, by its own density so far."""
        end = self._end(window)
        start = max(self._low, window.start or self._low)
        if window.pages < 2 or end <= window.position:
            return 0.0
        done = window.position - start
        # Many rows and no way made: a burst, with everything still ahead.
        return window.rows * (end - window.position) / done if done > 0 else float(_WORTH_SPLITTING)


def _settled(family: Family) -> bool:
    """Whether no window can meet a row of this slice any more; the rightmost is asked for to the end."""
    if family.unfinished or family.right is None or family.right.unfinished:
        return False
    return family.left is None or not family.left.unfinished
