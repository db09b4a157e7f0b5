"""Time windows on the first chat time: how a span is cut so that many cursors can walk at once.

Pure: what is here knows rows and numbers, no server. A span is taken from the left, a slice at a time, in slices
that get smaller towards the end. A window that turns out to be crowded is cut, and what lies behind the cut is
taken later; when nothing is left to take, the window with most still before it is cut in two. Windows overlap, so
it does not matter whether the server's bounds are inclusive, and the outermost are open, so it does not matter
whether the ends of the span are known exactly. Ids tell what came twice.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence

from .scale import Density, Scale
from .spans import Family, Stretch, Window, bound

__all__ = ["Family", "Plan", "Window"]

# A slice of so many rows keeps the ids that must be remembered few; one of fewer than the least wastes pages.
_MOST_ROWS = 2_500
_LEAST_ROWS = (100, 300)
# What a window has before it is worth splitting from so many of the least slices on.
_WORTH_SPLITTING = 2.0
# A slice is so many times wider than its overlaps, which are walked twice.
_OVERLAPS = 50
# Pages, without those at one instant, that tell how crowded a window is.
_TELLING = 8
# Ids of the rightmost rows that are kept to the end.
_TAIL = 1_000
# The pages by which a stretch is cut.
_REMEMBERED = 64


class Plan:
    """Who walks what.

    Args:
        low: About the first chat time of the earliest conversation, in the server's unit.
        high: About that of the latest.
        walkers: How many will ask for windows.
        overlap: By how much windows reach over a cut on either side: the server's resolution, at least.
        density: Rows per unit of time at the beginning, about, where that is known; it is learnt on the way.
        start: Where the first window begins; None for no bound.
        profile: How the rows are spread, about, as `Scale` takes it. Slices are cut by it; nothing relies on it.

    Attributes:
        active: The windows that are being walked.
        may_cut: Whether the end of a window may be moved while it is walked: where the server lets a cursor go on
            to a nearer end than it was made with. Until that is known, what was taken is walked whole.
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
        profile: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.active: list[Window] = []
        self.may_cut = False
        self._high = max(low, high)
        self._walkers = walkers
        self._overlap = overlap
        self._scale = Scale(low, self._high, profile)
        whole = Density(_REMEMBERED, 0.0 if profile else density)
        self._untaken = [Stretch(low, self._high, start, None, whole)]
        self._met: set[str] = set()
        self._kept: list[Family] = []
        self._least = float(_LEAST_ROWS[1])

    def take(self) -> Window | None:
        """The next window to walk; None when there is none now, though there may be later."""
        window = self._slice() if self._untaken else self._split() if self.may_cut else None
        if window is not None:
            self.active.append(window)
        return window

    def walked(self, window: Window, rows: int, position: float, *, narrowed: bool) -> None:
        """A page of a window has been seen.

        Args:
            window: The window.
            rows: How many rows were on the page.
            position: About where it ended.
            narrowed: Whether it was asked for with the end that the window has now.
        """
        window.rows += rows
        window.pages += 1
        self._advance(window, rows, min(position, self._end(window)))
        if narrowed and rows:
            # Pages ascend: if this one keeps to the nearer end, so do those before it.
            window.family.reach = bound(window.end)
        if self.may_cut:
            self._relieve(window)

    def finish(self, window: Window) -> None:
        """A window has been walked to its end."""
        self.active.remove(window)
        self._advance(window, 0, self._end(window))
        self._kept.append(window.family)
        spans = [(bound(each.start, -1), each.family.reach) for each in self.active]
        spans += [(bound(each.start, -1), bound(each.end)) for each in self._untaken]
        kept = self._tail()
        for family in self._kept[: len(self._kept) - len(kept)]:
            low, high = family.start - self._overlap, family.reach + self._overlap
            if any(start <= high and low <= end for start, end in spans):
                kept.append(family)
            else:
                family.forget()
        self._kept = kept

    def _tail(self) -> list[Family]:
        """The rightmost of those that were walked: enough that whoever walks the list's end meets one of them."""
        self._kept.sort(key=lambda family: family.start)
        tail: list[Family] = []
        ids = 0
        while len(tail) < len(self._kept) and ids < _TAIL:
            tail.append(self._kept[-1 - len(tail)])
            ids += len(tail[-1].ids)
        return tail

    @property
    def remembered(self) -> int:
        """How many ids are kept, because their rows could still be met again."""
        return len(self._met)

    @property
    def last(self) -> set[str]:
        """The ids of the rightmost windows, which are kept to the end; without a gap."""
        return set().union(*(each.ids for each in self._tail()))

    def _end(self, window: Window) -> float:
        return self._high if window.end is None else window.end

    def _advance(self, window: Window, rows: int, position: float) -> None:
        """Move a window's position on, and learn the density from it: gaps as well as crowds.

        Rows at one instant, however many, tell nothing of what lies behind it.
        """
        if position > window.position:
            distance = self._scale.place(position) - self._scale.place(window.position)
            window.position = position
            window.telling += 1
            window.density.learn(rows, distance)
            window.origin.density.learn(rows, distance)

    def _distance(self, low: float, high: float) -> float:
        return max(0.0, self._scale.place(high) - self._scale.place(low))

    def _after(self, time: float, rows: float, density: float) -> float:
        """The time about so many rows later, and not so near that much of a window would be walked twice."""
        later = self._scale.time(self._scale.place(time) + rows / density)
        return later + _OVERLAPS * 2 * self._overlap if rows >= _MOST_ROWS else later

    # --- taking -------------------------------------------------------------------------------------------

    def _slice(self) -> Window:
        stretch = self._untaken[0]
        cut = max(self._slice_end(stretch), stretch.low + 4 * self._overlap)
        # What would be left is not worth a window of its own.
        if stretch.high - cut < 4 * self._overlap or 2 * self._distance(cut, stretch.high) < self._distance(
            stretch.low, cut
        ):
            del self._untaken[0]
            return self._window(stretch, stretch.end)
        window = self._window(stretch, cut + self._overlap)
        stretch.low, stretch.start = cut, cut - self._overlap
        return window

    def _slice_end(self, stretch: Stretch) -> float:
        density = stretch.density.value
        if density == 0:
            width = self._distance(stretch.low, stretch.high) / (2 * self._walkers)
            return self._scale.time(self._scale.place(stretch.low) + width)
        ahead = sum(self._distance(each.low, each.high) * each.density.value for each in self._untaken)
        rows = ahead / (2 * self._walkers)
        if not self._kept and not self.active:
            # In a list of a few hundred, walking at once is worth some half-full pages.
            self._least = min(max(rows, _LEAST_ROWS[0]), _LEAST_ROWS[1])
        rows = min(max(rows, self._least), _MOST_ROWS)
        return self._after(stretch.low, rows, density)

    def _window(self, stretch: Stretch, end: float | None) -> Window:
        family = Family(bound(stretch.start, -1), bound(end), self._met)
        density = Density(_TELLING, stretch.density.value)
        return Window(stretch.start, end, family, stretch.low, stretch, density)

    # --- cutting ------------------------------------------------------------------------------------------

    def _ahead(self, window: Window) -> float:
        """About how many rows a window still has before it."""
        return window.density.value * self._distance(window.position, self._end(window))

    def _relieve(self, window: Window) -> None:
        """Cut a window that has far more before it than a slice should; the rest is taken later."""
        if window.telling < _TELLING:
            return
        density = window.density.value
        cut = self._after(window.position, _MOST_ROWS, density)
        if self._ahead(window) > 2 * density * self._distance(window.position, cut):
            insort(self._untaken, self._cut(window, cut), key=lambda each: each.low)

    def _split(self) -> Window | None:
        """Cut the window with most rows still before it; the new one takes the later part."""
        best = max((each for each in self.active if each.pages > 1), key=self._ahead, default=None)
        if best is None or not self._worth_splitting(best, cut := self._middle(best)):
            return None
        behind = self._cut(best, cut)
        return self._window(behind, behind.end)

    def _middle(self, window: Window) -> float:
        place = self._scale.place
        return self._scale.time((place(window.position) + place(self._end(window))) / 2)

    def _worth_splitting(self, window: Window, cut: float) -> bool:
        return (
            self._ahead(window) >= _WORTH_SPLITTING * self._least and self._end(window) - cut >= 4 * self._overlap
        )

    def _cut(self, window: Window, cut: float) -> Stretch:
        """Let a window end at a cut; what lies behind it."""
        # Between what is so here and what was so before: the crowd may end.
        density = math.sqrt(window.density.value * window.origin.density.value)
        start, end = cut - self._overlap, window.end
        behind = Stretch(cut, self._end(window), start, end, Density(_REMEMBERED, density))
        window.end = cut + self._overlap
        return behind
